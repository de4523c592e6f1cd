"""Publishing with confirmations over a link, repeated with the same id if the link breaks before the answer."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from aiormq import exceptions as amqp
from aiormq.channel import Channel

from kryonix.messaging.amqp.failures import BROKEN, too_large, translate_amqp_errors
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.wire import PASSED_ON, ExactProperties, open_channel
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

_PAUSE_S: Final = 0.05
"""Between a broken channel and the next attempt."""
_MAX_IN_FLIGHT: Final = 2_000
"""Messages waiting for their confirmation; more wait for their turn."""
_FRAME_MAX: Final = 131_072
"""Bytes of a frame, until the broker has announced its limit."""


class Publisher:
    """One channel in confirm mode, opened again when it breaks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._live: Channel | None = None
        self._frame_max = _FRAME_MAX
        self._opening: asyncio.Event | None = None
        self._turns = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self.answers = 0
        self._waiting: dict[asyncio.Timeout, Channel] = {}
        link.add(self)

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    async def publish(self, envelope: Envelope, deadline: float) -> None:
        """Publish until the message is confirmed or refused, or the loop's clock reaches `deadline`.

        Raises NotSerializable, before sending anything, for a message that would make the broker close the connection.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        properties, size = _properties(envelope)
        cut_off = False
        while True:
            try:
                channel = await self._channel(deadline)
                if size > self._frame_max:
                    problem = (
                        f"headers and properties are {size:,} bytes, the broker takes at most {self._frame_max:,} "
                        "in a frame"
                    )
                    raise NotSerializable(problem, remedy="Send them as data")
                if await self._publish_once(channel, envelope, properties, deadline):
                    return
            except MessagingError as error:
                if not cut_off:
                    raise
                # An earlier attempt may have been stored, whatever this one ends with.
                raise SendTimedOut(f"cut off before the broker's answer, then {error.problem}") from error
            cut_off = True
            if loop.time() >= deadline:
                raise SendTimedOut(f"no confirmation within {round(max(deadline - started, 0), 3):g} s")
            await asyncio.sleep(_PAUSE_S)

    async def _publish_once(
        self, channel: Channel, envelope: Envelope, properties: ExactProperties, deadline: float
    ) -> bool:
        """Return True if the broker has confirmed, False if the channel broke or the deadline passed before."""
        try:
            async with asyncio.timeout_at(deadline) as scope:
                self._waiting[scope] = channel
                try:
                    async with self._turns:
                        with translate_amqp_errors():
                            await channel.basic_publish(
                                envelope.body,
                                exchange=envelope.exchange,
                                routing_key=envelope.routing_key,
                                properties=properties,
                                mandatory=True,
                                wait=False,
                            )
                            self.answers += 1
                finally:
                    del self._waiting[scope]
        except TimeoutError:
            return False
        except BROKEN as error:
            if problem := _refusal(envelope, error):
                self.answers += 1
                raise problem from error
            return False
        return True

    async def _channel(self, deadline: float) -> Channel:
        started = asyncio.get_running_loop().time()
        try:
            while self._live is None or self._live.is_closed:
                async with asyncio.timeout_at(deadline):
                    if self._opening is None:
                        await self._open(deadline)
                    else:
                        # Not a lock: it would let the waiting tasks through one by one, behind all later ones.
                        await self._opening.wait()
        except TimeoutError as error:
            if not self._link.connected:
                raise self._link.missing(asyncio.get_running_loop().time() - started) from error
            raise NotConnected("no channel before the deadline") from error
        return self._live

    async def _open(self, deadline: float) -> None:
        """Try once to open a channel, for all publishing tasks."""
        self._opening = done = asyncio.Event()
        try:
            connection = await self._link.connection(deadline - asyncio.get_running_loop().time())
            try:
                with translate_amqp_errors():
                    opened = await open_channel(connection, confirmed=True)
                if self._link.offers(connection):  # else the link has moved on meanwhile
                    self._live = opened
                    self._frame_max = opened.connection.connection_tune.frame_max or sys.maxsize
            except BROKEN:
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._opening = None
            done.set()

    async def ask(self) -> None:
        """Ask nothing: the next message asks."""

    def lost(self) -> None:
        live, self._live = self._live, None
        self._wake(live)

    async def move(self) -> None:
        """Publish over the link's new connection. Wait for the answers that are due over the old one."""
        old, self._live = self._live, None
        try:
            while any(channel is old for channel in self._waiting.values()):
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._wake(old)

    def _wake(self, ended: Channel | None) -> None:
        """Wake the tasks waiting on a channel that is gone: some of aiormq's waits never end by themselves."""
        now = asyncio.get_running_loop().time()
        for scope, channel in self._waiting.items():
            if channel is ended and not scope.expired():
                scope.reschedule(now)


def _properties(envelope: Envelope) -> tuple[ExactProperties, int]:
    """Return the properties, and the size of their frame in bytes. Raises NotSerializable."""
    properties = ExactProperties(
        milliseconds=envelope.received,
        headers=envelope.headers,
        delivery_mode=2,
        priority=envelope.priority,
        expiration=None if envelope.expiration is None else str(envelope.expiration),
        message_id=envelope.message_id,
        **{name: getattr(envelope, name) for name in PASSED_ON},
    )
    try:
        return properties, properties.frame_size
    except Exception as error:  # properties of another application may raise anything
        raise NotSerializable(
            f"its properties can't be written: {str(error) or type(error).__name__}",
            remedy="Send headers of text, numbers, booleans, None, datetimes, lists and dicts of them",
        ) from error


def _refusal(envelope: Envelope, error: BaseException) -> MessagingError | None:
    """Return the broker's refusal of this message, or None for another error.

    An error that closes the channel reaches every task on it: it concerns this message only if it names its exchange.
    """
    exchange, key = envelope.exchange, envelope.routing_key
    if isinstance(error, amqp.PublishError):
        return NotRoutable(f"no queue takes {key} from {exchange}")
    if isinstance(error, amqp.DeliveryError):
        return QueueFull(f"the queue of {key} is full")
    mine = f"'{exchange}'" in str(error)
    if isinstance(error, amqp.ChannelNotFoundEntity) and mine:
        return NotRoutable(f"there is no exchange {exchange}")
    if isinstance(error, amqp.ChannelAccessRefused) and mine:
        remedy = "Check that the exchange belongs to the tenant, and that the tenant is not suspended"
        return AccessRefused(f"the user has no permission to publish to {exchange}", remedy=remedy)
    limit, size = too_large(error), len(envelope.body)
    if limit is not None and size > limit:
        problem = f"the message is {size:,} bytes, the broker takes at most {limit:,}"
        return NotSerializable(problem, remedy="Store the data elsewhere and send its location")
    return None
