"""Publishing with confirmations over a link: again with the same id where the link breaks before the answer."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

from aiormq import exceptions as amqp
from aiormq.channel import Channel

from kryonix.messaging.amqp.failures import BROKEN, told_apart, too_large
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.errors import (
    AccessRefused,
    MessagingError,
    NotConnected,
    NotRoutable,
    NotSerializable,
    QueueFull,
    SendTimedOut,
)
from kryonix.messaging.message import Envelope

__all__ = ["Publisher"]

_PAUSE: Final = 0.05
"""Seconds between a broken channel and the next attempt."""
_IN_FLIGHT: Final = 2_000
"""Messages that may wait for their confirmation; more wait for their turn."""
_FRAME_MAX: Final = 131_072
"""Bytes of a frame until the broker has said how many it takes."""


class Publisher:
    """One channel in confirm mode, opened again when it breaks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._live: Channel | None = None
        self._frame_max = _FRAME_MAX
        self._opening: asyncio.Event | None = None
        self._turns = asyncio.Semaphore(_IN_FLIGHT)
        self._waiting: set[asyncio.Timeout] = set()
        link.on_loss(self._lost)

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        """Publish until it is confirmed, refused, or `timeout` seconds have passed.

        Raises NotSerializable for what the broker would close the connection on: nothing of it is sent.
        """
        loop = asyncio.get_running_loop()
        properties = _properties(envelope)
        size = _frame_size(properties, envelope)
        deadline = loop.time() + timeout
        cut_off = False
        while True:
            try:
                channel = await self._channel(deadline)
                if size > self._frame_max:
                    raise _too_large_a_frame(envelope, size, self._frame_max)
                if await self._once(channel, envelope, properties, deadline):
                    return
            except MessagingError as error:
                if cut_off:
                    # Whatever is said of this attempt: an earlier one may have been stored.
                    raise _unknown(envelope, f"cut off before the broker's answer, then {error.problem}") from error
                raise type(error)(error.problem, message_id=envelope.message_id, remedy=error.remedy) from error
            cut_off = True
            if loop.time() >= deadline:
                raise _unknown(envelope, f"no confirmation within {round(max(timeout, 0), 3):g} s")
            await asyncio.sleep(_PAUSE)

    async def _once(self, channel: Channel, envelope: Envelope, properties: ExactProperties, deadline: float) -> bool:
        """True where the broker has confirmed, False where the channel broke or time is up before it answered."""
        try:
            async with asyncio.timeout_at(deadline) as scope:
                self._waiting.add(scope)
                try:
                    async with self._turns:
                        with told_apart():
                            await channel.basic_publish(
                                envelope.body,
                                exchange=envelope.exchange,
                                routing_key=envelope.routing_key,
                                properties=properties,
                                mandatory=True,
                                wait=False,
                            )
                finally:
                    self._waiting.discard(scope)
        except TimeoutError:
            return False
        except BROKEN as error:
            if problem := _refusal(envelope, error):
                raise problem from error
            return False
        return True

    async def _channel(self, deadline: float) -> Channel:
        began = asyncio.get_running_loop().time()
        try:
            while self._live is None or self._live.is_closed:
                async with asyncio.timeout_at(deadline):
                    if self._opening is None:
                        await self._open(deadline)
                    else:
                        # No lock: it would let those who wait through one by one, behind all who come later.
                        await self._opening.wait()
        except TimeoutError as error:
            if not self._link.connected:
                raise self._link.missing(asyncio.get_running_loop().time() - began) from error
            raise NotConnected("no channel before the deadline") from error
        return self._live

    async def _open(self, deadline: float) -> None:
        """One attempt, for all who want to publish."""
        self._opening = done = asyncio.Event()
        try:
            connection = await self._link.connection(deadline - asyncio.get_running_loop().time())
            try:
                with told_apart():
                    opened = await connection.channel(on_return_raises=True)
                    self._live = cast(Channel, await opened.get_underlay_channel())
                    self._frame_max = self._live.connection.connection_tune.frame_max or sys.maxsize
            except BROKEN:
                await asyncio.sleep(_PAUSE)
        finally:
            self._opening = None
            done.set()

    def _lost(self) -> None:
        """Wake everyone who waits on the broken connection: some of aiormq's waits would never end by themselves."""
        self._live = None
        now = asyncio.get_running_loop().time()
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(now)


def _unknown(envelope: Envelope, problem: str) -> SendTimedOut:
    return SendTimedOut(problem, message_id=envelope.message_id)


def _frame_size(properties: ExactProperties, envelope: Envelope) -> int:
    """The bytes of the frame that holds the properties. Raises NotSerializable where they can't be written."""
    try:
        return properties.frame_size
    except Exception as error:  # what another application has written raises whatever it likes
        raise NotSerializable(
            f"its properties can't be written: {str(error) or type(error).__name__}",
            message_id=envelope.message_id,
            remedy="Send headers of text, numbers, booleans, None, datetimes, lists and dicts of them",
        ) from error


def _too_large_a_frame(envelope: Envelope, size: int, largest: int) -> NotSerializable:
    return NotSerializable(
        f"headers and properties are {size:,} bytes, the broker takes at most {largest:,} in a frame",
        message_id=envelope.message_id,
        remedy="Send it as data",
    )


def _properties(envelope: Envelope) -> ExactProperties:
    return ExactProperties(
        milliseconds=envelope.received,
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        headers=envelope.headers,
        delivery_mode=2,
        priority=envelope.priority,
        expiration=None if envelope.expiration is None else str(envelope.expiration),
        message_id=envelope.message_id,
        timestamp=envelope.timestamp,
        app_id=envelope.app_id,
        correlation_id=envelope.correlation_id,
        reply_to=envelope.reply_to,
        message_type=envelope.message_type,
    )


def _refusal(envelope: Envelope, error: BaseException) -> MessagingError | None:
    """What the broker said no to, or None where it said nothing about this message.

    An error that closes the channel reaches everyone on it: it is this message's only where it names its exchange.
    """
    message_id = envelope.message_id
    if isinstance(error, amqp.PublishError):
        return NotRoutable(f"no queue takes {envelope.routing_key} from {envelope.exchange}", message_id=message_id)
    if isinstance(error, amqp.DeliveryError):
        return QueueFull(f"the queue of {envelope.routing_key} is full", message_id=message_id)
    mine = f"'{envelope.exchange}'" in str(error)
    if isinstance(error, amqp.ChannelNotFoundEntity) and mine:
        return NotRoutable(f"there is no exchange {envelope.exchange}", message_id=message_id)
    if isinstance(error, amqp.ChannelAccessRefused) and mine:
        return AccessRefused(f"no permission to publish to {envelope.exchange}", message_id=message_id)
    limit = too_large(error)
    if limit is not None and len(envelope.body) > limit:
        return NotSerializable(
            f"the message is {len(envelope.body):,} bytes, the broker takes at most {limit:,}",
            message_id=message_id,
            remedy="Store the data elsewhere and send where it is",
        )
    return None
