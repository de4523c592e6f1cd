"""Consuming over a link: the subscription is renewed after every break, and what was handed out is answered once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, cast

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.channel import Channel

from kryonix.messaging.amqp.failures import BROKEN, told_apart
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.wire import UNREADABLE_HEADER
from kryonix.messaging.errors import AccessRefused, NotConnected, NotRoutable
from kryonix.messaging.message import Envelope
from kryonix.messaging.transport import Delivery

__all__ = ["AmqpSubscription"]

log = logging.getLogger("kryonix.messaging")

_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_ANSWER: Final = 5.0
"""Seconds after which an answer that can't be written is given up: its connection is dead."""


class AmqpDelivery:
    """A message from the broker. The first answer counts: a second one would close the channel. An answer to a channel
    that is gone is dropped: the broker delivers the message again."""

    __slots__ = ("_answered", "_message", "envelope", "queue")

    def __init__(self, message: DeliveredMessage, queue: str) -> None:
        self._message, self.queue, self._answered = message, queue, False
        self.envelope = _envelope(message)

    async def ack(self) -> None:
        await self._answer(lambda channel, tag: channel.basic_ack(tag, wait=False))

    async def reject(self, *, requeue: bool) -> None:
        # Not nack: the broker counts a reject as a failure, a nack it does not, and would deliver for ever.
        await self._answer(lambda channel, tag: channel.basic_reject(tag, requeue=requeue, wait=False))

    async def give_back(self) -> None:
        await self._answer(lambda channel, tag: channel.basic_nack(tag, requeue=True, wait=False))

    async def _answer(self, answer: Callable[[AbstractChannel, int], Awaitable[None]]) -> None:
        channel = cast(Channel, self._message.channel)
        if self._answered or channel.is_closed:
            return
        self._answered = True
        if not channel.write_queue.full():
            # Nothing to wait for, so no need of a deadline: this is the way of nearly every answer.
            with contextlib.suppress(*BROKEN):
                await answer(channel, self._message.delivery_tag or 0)
            return
        with contextlib.suppress(*BROKEN, TimeoutError):
            async with asyncio.timeout(_ANSWER):
                await answer(channel, self._message.delivery_tag or 0)


def _envelope(message: DeliveredMessage) -> Envelope:
    properties = message.header.properties
    return Envelope(
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        body=bytes(message.body),
        message_id=properties.message_id or "",
        headers=dict(properties.headers or {}),
        priority=properties.priority or 0,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        expiration=int(properties.expiration) if properties.expiration else None,
        timestamp=properties.timestamp,
        app_id=properties.app_id,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        message_type=properties.message_type,
    )


class AmqpSubscription:
    """A channel that consumes some queues, opened again when it breaks."""

    def __init__(self, link: Link, queues: Sequence[str], prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        self._link, self._queues, self._prefetch, self._deliver = link, queues, prefetch, deliver
        self._channel: AbstractChannel | None = None
        self._interrupted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._tags: list[str] = []

    async def open(self, timeout: float) -> None:
        """Subscribe for the first time, again where the connection breaks. Raises NotConnected, NotRoutable or
        AccessRefused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._keeper is None:
            try:
                async with asyncio.timeout_at(deadline):
                    with told_apart():
                        await self._subscribe(timeout)
                self._keeper = asyncio.create_task(self._keep(), name=f"kryonix subscription {self._queues[0]}")
            except amqp.ChannelNotFoundEntity as error:
                raise NotRoutable(f"there is no queue {' or '.join(self._queues)}") from error
            except amqp.ChannelAccessRefused as error:
                raise AccessRefused(f"no permission to consume {', '.join(self._queues)}") from error
            except (*BROKEN, TimeoutError) as error:
                if loop.time() + _PAUSE >= deadline:
                    queues = ", ".join(self._queues)
                    raise NotConnected(f"no subscription to {queues} within {round(timeout, 3):g} s") from error
                await self._leave()
                await asyncio.sleep(_PAUSE)

    async def _subscribe(self, timeout: float) -> None:
        connection = await self._link.connection(timeout)
        opened = await connection.channel(publisher_confirms=False)
        channel = await opened.get_underlay_channel()
        self._interrupted = interrupted = asyncio.Event()
        channel.closing.add_done_callback(lambda _: interrupted.set())
        channel.on_consumer_cancel_callbacks.add(lambda _: interrupted.set())
        self._channel, self._tags = channel, []
        await channel.basic_qos(prefetch_count=self._prefetch, timeout=timeout)
        for queue in self._queues:
            answer = await channel.basic_consume(queue, self._receiver(queue), timeout=timeout)
            self._tags.append(answer.consumer_tag or "")

    def _receiver(self, queue: str) -> Callable[[DeliveredMessage], Coroutine[Any, Any, None]]:
        async def receive(message: DeliveredMessage) -> None:
            delivery = AmqpDelivery(message, queue)
            if (reason := delivery.envelope.headers.get(UNREADABLE_HEADER)) is None:
                self._deliver(delivery)
                return
            log.warning("%s: a message whose properties can't be read is a dead letter: %s", queue, reason)
            await delivery.reject(requeue=False)

        return receive

    async def _keep(self) -> None:
        pause, said = _PAUSE, ""
        while True:
            await self._interrupted.wait()
            if not said:
                log.warning("%s: subscription lost, subscribing again", self._queues[0])
            await self._leave()
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(_LONGEST_PAUSE * 2):
                    with told_apart():
                        await self._subscribe(_LONGEST_PAUSE)
                log.warning("%s: subscribed again", self._queues[0])
                pause, said = _PAUSE, ""
            except (*BROKEN, NotConnected, TimeoutError) as error:
                if said != type(error).__name__:
                    said = type(error).__name__
                    log.warning("%s: not subscribed yet, trying again: %s: %s", self._queues[0], said, error)
                self._interrupted.set()
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def cancel(self) -> None:
        await self._stop_keeping()
        channel = self._channel
        if channel is None or channel.is_closed:
            return
        for tag in self._tags:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    await channel.basic_cancel(tag, timeout=_ANSWER)

    async def close(self) -> None:
        await self._stop_keeping()
        await self._leave()

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def _leave(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and not channel.is_closed:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    await channel.close()
