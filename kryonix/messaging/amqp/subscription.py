"""Consuming over a link: the subscription is renewed after every break, and what was handed out is answered once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.delivery import AmqpDelivery, Handout, Unanswered
from kryonix.messaging.amqp.failures import BROKEN, told_apart
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.wire import UNREADABLE_HEADER
from kryonix.messaging.errors import AccessRefused, NotConnected, NotRoutable
from kryonix.messaging.transport import Delivery

__all__ = ["AmqpSubscription"]

log = logging.getLogger("kryonix.messaging")

_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_ANSWER: Final = 5.0
"""Seconds after which a question that is not answered is given up: its connection is dead."""
_TIMEOUT_ARGUMENT: Final = "x-consumer-timeout"


class AmqpSubscription:
    """A channel that consumes some queues, opened again when it breaks.

    The broker is asked to wait `answer_within` seconds for each answer, whatever its own limit or a policy's is.
    """

    def __init__(
        self,
        link: Link,
        queues: Sequence[str],
        prefetch: int,
        deliver: Callable[[Delivery], None],
        answer_within: float,
        unanswered: Unanswered,
    ) -> None:
        self._link, self._queues, self._prefetch, self._deliver = link, queues, prefetch, deliver
        self._unanswered = unanswered
        self._arguments: dict[str, Any] | None = {_TIMEOUT_ARGUMENT: int(answer_within * 1000)}
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
        handout = Handout(channel)

        def end(reason: object) -> None:
            if not interrupted.is_set():
                interrupted.set()
                self._end(handout, reason)

        channel.closing.add_done_callback(lambda closing: end(_why_closed(closing)))
        channel.on_consumer_cancel_callbacks.add(lambda _: end("the broker has cancelled the consumer"))
        self._channel, self._tags = channel, []
        await channel.basic_qos(prefetch_count=self._prefetch, timeout=timeout)
        try:
            for queue in self._queues:
                answer = await channel.basic_consume(
                    queue, self._receiver(queue, handout), arguments=self._arguments, timeout=timeout
                )
                self._tags.append(answer.consumer_tag or "")
        except amqp.ChannelPreconditionFailed as error:
            if self._arguments is not None and _TIMEOUT_ARGUMENT in str(error):
                log.warning("%s: this broker can't be asked for more time; its own limit holds", self._queues[0])
                self._arguments = None
            raise

    def _end(self, handout: Handout, reason: object) -> None:
        """Say what is lost with a channel, and keep what is in hand: its answers wait for its next delivery."""
        in_hand, waiting = handout.end()
        if self._keeper is None:
            # It is closed on purpose: what is still in hand is given up, and may be begun by others.
            return
        self._unanswered.keep(in_hand)
        log.warning(
            "%s: subscription lost (%s), subscribing again; %d messages in hand can't be answered before they come "
            "again, %d that only waited are dropped",
            self._queues[0],
            reason,
            len(in_hand),
            waiting,
        )

    def _receiver(self, queue: str, handout: Handout) -> Callable[[DeliveredMessage], Coroutine[Any, Any, None]]:
        async def receive(message: DeliveredMessage) -> None:
            delivery = AmqpDelivery(message, queue, handout)
            if (reason := delivery.envelope.headers.get(UNREADABLE_HEADER)) is not None:
                log.warning("%s: a message whose properties can't be read is a dead letter: %s", queue, reason)
                await delivery.reject(requeue=False)
            elif (begun := self._unanswered.find(delivery)) is not None:
                await begun.come_again(message, handout)
            else:
                self._deliver(delivery)

        return receive

    async def _keep(self) -> None:
        pause, said = _PAUSE, ""
        while True:
            await self._interrupted.wait()
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


def _why_closed(closing: asyncio.Future[Any]) -> object:
    if closing.cancelled():
        return "the channel was closed"
    return closing.exception() or "the channel was closed"
