"""Publishing with confirmations over a link, repeated with the same id if the link breaks before the answer."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from typing import Final

from kryonix.messaging.amqp.confirms import Answer, ConfirmChannel
from kryonix.messaging.amqp.failures import BROKEN, translate_amqp_errors
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.properties import encode_properties
from kryonix.messaging.errors import MessagingError, NotConnected, NotSerializable, SendTimedOut
from kryonix.messaging.message import Envelope

_PAUSE_S: Final = 0.05
"""Between a broken channel and the next attempt."""
_MAX_IN_FLIGHT: Final = 2_000
"""Messages waiting for their confirmation; more wait for their turn."""


class _Turns:
    """Turns to have a message in flight. asyncio's semaphore looks at all who wait whenever one of them gives up."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def take(self) -> bool:
        """Take a turn, if one is free: then nobody waits."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for a turn that is given back."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # it was given meanwhile
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give a turn to who has waited longest."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Publisher:
    """One channel in confirm mode, opened again when it breaks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._live: ConfirmChannel | None = None
        self._left: set[ConfirmChannel] = set()
        """Channels on a connection that is moved away from, with answers still due."""
        self._opening: asyncio.Event | None = None
        self._turns = _Turns(_MAX_IN_FLIGHT)
        self.answers = 0
        link.add(self)

    @property
    def waiting(self) -> bool:
        return any(channel.waiting for channel in (self._live, *self._left) if channel is not None)

    async def publish(self, envelope: Envelope, deadline: float) -> None:
        """Publish until the message is confirmed or refused, or the loop's clock reaches `deadline`.

        Raises NotSerializable, before sending anything, for a message that would make the broker close the connection.
        """
        if not envelope.message_id:  # the broker names a returned message by its id only
            envelope.message_id = uuid.uuid4().hex
        properties = _properties(envelope)
        started = asyncio.get_running_loop().time()
        cut_off = False
        while True:
            try:
                channel = self._live
                if channel is None or channel.ended:
                    channel = await self._channel(deadline)
                answer = await self._answer(channel, envelope, properties, deadline)
            except MessagingError as error:
                answer = error
            if answer == "stored":
                return
            if isinstance(answer, MessagingError):
                if not cut_off:
                    raise answer
                # An earlier attempt may have been stored, whatever this one ends with.
                raise SendTimedOut(f"cut off before the broker's answer, then {answer.problem}") from answer
            cut_off = cut_off or answer != "unsent"
            if answer == "late" or asyncio.get_running_loop().time() >= deadline:
                raise SendTimedOut(f"no confirmation within {round(max(deadline - started, 0), 3):g} s")
            await asyncio.sleep(_PAUSE_S)

    async def _answer(self, channel: ConfirmChannel, envelope: Envelope, properties: bytes, deadline: float) -> Answer:
        """Publish once, in turn, and return the answer. Raises NotSerializable."""
        if (size := channel.size_of(properties)) > channel.frame_max:
            problem = (
                f"headers and properties are {size:,} bytes, the broker takes at most {channel.frame_max:,} in a frame"
            )
            raise NotSerializable(problem, remedy="Send them as data")
        if not self._turns.take():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._turns.wait()
            except TimeoutError:
                return "late"
        try:
            if channel.writer.is_full:
                try:
                    async with asyncio.timeout_at(deadline):
                        await channel.room()
                except TimeoutError:
                    return "late"
                except OSError:
                    return "unsent"
            if channel.ended:
                return "unsent"
            answer = await channel.publish(envelope, properties, deadline)
        finally:
            self._turns.give_back()
        self.answers += answer not in ("cut off", "late")
        return answer

    async def _channel(self, deadline: float) -> ConfirmChannel:
        started = asyncio.get_running_loop().time()
        try:
            while self._live is None or self._live.ended:
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
                    opened = await connection.open_channel(confirmed=True)
                if self._link.offers(connection):  # else the link has moved on meanwhile
                    self._live = ConfirmChannel(connection, opened)
            except BROKEN:
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._opening = None
            done.set()

    async def ask(self) -> None:
        """Ask nothing: the next message asks."""

    def lost(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.cut_off()

    async def move(self) -> None:
        """Publish over the link's new connection. Wait for the answers that are due over the old one."""
        old, self._live = self._live, None
        if old is None:
            return
        self._left.add(old)
        try:
            while old.waiting:
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._left.discard(old)
            old.cut_off()


def _properties(envelope: Envelope) -> bytes:
    """Return the properties in binary. Raises NotSerializable."""
    try:
        return encode_properties(envelope)
    except Exception as error:  # properties of another application may raise anything
        raise NotSerializable(
            f"its properties can't be written: {str(error) or type(error).__name__}",
            remedy="Send headers of text, numbers, booleans, None, datetimes, lists and dicts of them",
        ) from error
