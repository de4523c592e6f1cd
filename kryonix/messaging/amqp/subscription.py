"""Consuming over a link: renew the subscription after every break, and answer each delivery once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Sequence
from typing import Any, Final

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.connection import Connection
from kryonix.messaging.amqp.deliveries import DeliveryChannel, Receive
from kryonix.messaging.amqp.delivery import AmqpDelivery, Handout, Unanswered
from kryonix.messaging.amqp.failures import BROKEN, translate_amqp_errors
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.errors import AccessRefused, NotConnected, NotRoutable
from kryonix.messaging.message import Envelope, Header
from kryonix.messaging.transport import Deliver

log = logging.getLogger("kryonix.messaging")

_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 5.0
_ANSWER_S: Final = 5.0
"""Time for an answer of the broker. After that the connection is dead."""
_ASK_AGAIN_S: Final = 0.5
_TIMEOUT_ARGUMENT: Final = "x-consumer-timeout"


class AmqpSubscription:
    """A channel consuming some queues, opened again when it breaks.

    Each answer may take `answer_within` seconds, whatever the limit of the broker or a policy.
    """

    def __init__(
        self, link: Link, queues: Sequence[str], prefetch: int, deliver: Deliver, answer_within: float, kept: Unanswered
    ) -> None:
        self._link, self._queues, self._prefetch, self._deliver = link, queues, prefetch, deliver
        self._unanswered = kept
        self._arguments: dict[str, Any] | None = {_TIMEOUT_ARGUMENT: int(answer_within * 1000)}
        self._channel: AbstractChannel | None = None
        self._handout: Handout | None = None
        self._broken = asyncio.Event()
        """Set once the current handout has ended."""
        self._keeper: asyncio.Task[None] | None = None
        self._renewing = asyncio.Lock()
        """Held while the subscription changes: two channels at once would leave one that nobody ever closes."""
        self._tags: list[str] = []
        self._asking: asyncio.Timeout | None = None
        self._doubted = False
        self.answers = 0
        link.add(self)

    @property
    def waiting(self) -> bool:
        return self._asking is not None or self._doubted

    async def open(self, timeout: float) -> None:
        """Subscribe, repeatedly if the connection breaks. Raises NotConnected, NotRoutable or AccessRefused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._keeper is None:
            try:
                async with asyncio.timeout_at(deadline):
                    with translate_amqp_errors():
                        await self._subscribe(timeout)
                self._keeper = asyncio.create_task(self._keep(), name=f"kryonix subscription {self._queues[0]}")
            except amqp.ChannelNotFoundEntity as error:
                raise NotRoutable(f"there is no queue {' or '.join(self._queues)}") from error
            except amqp.ChannelAccessRefused as error:
                raise AccessRefused(f"no permission to consume {', '.join(self._queues)}") from error
            except (*BROKEN, TimeoutError) as error:
                if loop.time() + _PAUSE_S >= deadline:
                    queues = ", ".join(self._queues)
                    raise NotConnected(f"no subscription to {queues} within {round(timeout, 3):g} s") from error
                await self._leave()
                await asyncio.sleep(_PAUSE_S)

    async def _subscribe(self, timeout: float) -> None:
        connection = await self._link.connection(timeout)
        try:
            async with asyncio.timeout(None) as self._asking:
                await self._consume(connection, timeout)
                self.answers += 1
        finally:
            self._asking = None

    async def _consume(self, connection: Connection, timeout: float) -> None:
        channel = await connection.open_channel()
        arriving = DeliveryChannel(connection, channel)
        handout = Handout(arriving)

        def closed(closing: asyncio.Future[Any]) -> None:
            error = None if closing.cancelled() else closing.exception()
            self._end(handout, (str(error) if error else "") or "the channel was closed")

        channel.closing.add_done_callback(closed)
        channel.on_consumer_cancel_callbacks.add(lambda _: self._end(handout, "the broker has cancelled the consumer"))
        self._channel, self._handout, self._tags = channel, handout, []
        self._broken.clear()
        await channel.basic_qos(prefetch_count=self._prefetch, timeout=timeout)
        try:
            for queue in self._queues:
                tag = uuid.uuid4().hex
                arriving.on_delivery(tag, self._receiver(queue, handout))
                await channel.basic_consume(
                    queue, _untaken, consumer_tag=tag, arguments=self._arguments, timeout=timeout
                )
                self._tags.append(tag)
        except amqp.ChannelPreconditionFailed as error:
            if self._arguments is not None and _TIMEOUT_ARGUMENT in str(error):
                log.warning(
                    "%s: this broker does not support consumer timeouts; its own limit applies", self._queues[0]
                )
                self._arguments = None
            raise

    def _end(self, handout: Handout, reason: object) -> None:
        """Keep the deliveries being handled: their answers wait for the next delivery of the message."""
        if handout.interrupted:
            return
        handling, waiting = handout.end()
        if handout is self._handout:
            self._broken.set()
        elif not handling and not waiting:
            return  # moved away from, and done
        if self._keeper is None:
            # Closed on purpose: other consumers may handle the messages.
            return
        self._unanswered.keep(handling)
        log.warning(
            "%s: subscription lost (%s), subscribing again; the answers of %d messages wait for their redelivery, "
            "%d waiting messages are dropped",
            self._queues[0],
            reason,
            len(handling),
            waiting,
        )

    def _receiver(self, queue: str, handout: Handout) -> Receive:
        def receive(tag: int, redelivered: bool, envelope: Envelope) -> None:
            self.answers += 1
            delivery = AmqpDelivery(tag, redelivered, envelope, queue, handout)
            if (reason := envelope.headers.get(Header.UNREADABLE)) is not None:
                log.warning("%s: a message with unreadable properties is a dead letter: %s", queue, reason)
                delivery.decide("reject")
            elif (earlier := self._unanswered.pop(delivery)) is not None:
                earlier.take_over(tag, handout)
            else:
                self._deliver(delivery)

        return receive

    async def _keep(self) -> None:
        pause, logged = _PAUSE_S, ""
        while True:
            await self._broken.wait()
            async with self._renewing:
                if not self._broken.is_set():
                    continue  # moved meanwhile
                await self._leave()
                await asyncio.sleep(pause)
                try:
                    async with asyncio.timeout(_MAX_PAUSE_S * 2):
                        with translate_amqp_errors():
                            await self._subscribe(_MAX_PAUSE_S)
                    log.warning("%s: subscribed again", self._queues[0])
                    pause, logged = _PAUSE_S, ""
                except (*BROKEN, NotConnected, TimeoutError) as error:
                    if logged != type(error).__name__:
                        logged = type(error).__name__
                        log.warning("%s: not subscribed yet, trying again: %s: %s", self._queues[0], logged, error)
                    self._broken.set()
                    pause = min(pause * 2, _MAX_PAUSE_S)

    async def ask(self) -> None:
        """Ask a queue for its consumers: there is one, but a node that can't reach the queue's leader counts none."""
        channel = self._channel
        self._doubted = self._keeper is not None and channel is not None
        with contextlib.suppress(*BROKEN), translate_amqp_errors():
            while self._doubted and channel is not None and channel is self._channel:
                with contextlib.suppress(TimeoutError):
                    if (await channel.queue_declare(self._queues[0], passive=True, timeout=_ANSWER_S)).consumer_count:
                        self.answers += 1
                        break
                await asyncio.sleep(_ASK_AGAIN_S)
        self._doubted = False

    def lost(self) -> None:
        self._channel = None  # nobody answers any more, not even its closing
        self._doubted = False
        if self._handout is not None:
            self._end(self._handout, "the connection is lost")
        if self._asking is not None and not self._asking.expired():
            self._asking.reschedule(asyncio.get_running_loop().time())

    async def move(self) -> None:
        """Consume over the link's new connection. Wait for the answers to what has come over the old one."""
        async with self._renewing:
            channel, handout, tags = self._channel, self._handout, self._tags
            if self._keeper is None or channel is None or handout is None or self._broken.is_set():
                return  # `_keep` subscribes over the new connection anyway
            try:
                await self._cancel(channel, tags)
                async with asyncio.timeout(_ANSWER_S):
                    with translate_amqp_errors():
                        await self._subscribe(_ANSWER_S)
            except (*BROKEN, NotConnected, TimeoutError):
                self._broken.set()
            except asyncio.CancelledError:  # the old connection has ended meanwhile, and the new channel is half made
                self._broken.set()
                raise
        while handout.open and not handout.ended:
            await asyncio.sleep(_PAUSE_S)

    async def cancel(self) -> None:
        await self._stop_keeping()
        async with self._renewing:
            if self._channel is not None:
                await self._cancel(self._channel, self._tags)

    @staticmethod
    async def _cancel(channel: AbstractChannel, tags: Sequence[str]) -> None:
        if channel.is_closed:
            return
        for tag in tags:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await channel.basic_cancel(tag, timeout=_ANSWER_S)

    async def close(self) -> None:
        self._link.remove(self)
        await self._stop_keeping()
        async with self._renewing:
            await self._leave()

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def _leave(self) -> None:
        channel, self._channel = self._channel, None
        if self._handout is not None:
            self._end(self._handout, "closed")  # an answer after the close would end the connection
        if channel is not None and not channel.is_closed:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await channel.close()


async def _untaken(message: DeliveredMessage) -> None:
    """Stand for a consumer in aiormq, which gets none of its messages."""
