"""AMQP frames on a connection's socket, read and written many at a time.

aiormq reads a frame by three awaits, hands it to the channel's task over a queue, and writes through another task. Here
frames of messages and their answers go straight from the buffer to who takes them; aiormq gets only the others, such as
the login, the opening of channels and heartbeats.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

import pamqp.frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from kryonix.messaging.message import Header

METHOD, HEADER, BODY = 1, 2, 3
FRAME_END: Final = b"\xce"
FRAME_HEAD: Final = struct.Struct(">BHI")
"""Type, channel, and bytes of the payload."""
OVERHEAD: Final = FRAME_HEAD.size + len(FRAME_END)
"""Bytes of a frame besides its payload."""
_CHUNK: Final = 262_144
_BUFFERED: Final = 4_194_304
"""Bytes that wait for the socket before a publisher waits too."""

CHANNEL_CLOSE: Final = frozenset({b"\x00\x14\x00\x28", b"\x00\x14\x00\x29"})
"""The methods after which nothing may be written on a channel: close and close-ok."""

Taker = Callable[[int, bytes, int, int], bool]
"""Takes a frame: its type, a buffer, and where the payload begins and ends. Returns False to leave it to aiormq."""


class FrameReader:
    """A StreamReader for aiormq, without the frames that a channel's taker takes."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._clock = asyncio.get_running_loop().time
        self._buffer, self._at = b"", 0
        self._pieces: list[bytes] = []
        self._missing = 0
        """Bytes of a begun frame, gathered in pieces: it may be as large as its message."""
        self._served = b""
        """What aiormq has not read yet of its frame."""
        self.takers: dict[int, Taker] = {}
        self.heard = self._clock()
        """When the broker sent anything last, by the clock of the event loop."""

    async def readexactly(self, count: int) -> bytes:
        """Serve aiormq's three reads of a frame. At the end of the stream, fail as a StreamReader does."""
        if not self._served:
            self._served = await self._next()
        taken, self._served = self._served[:count], self._served[count:]
        while len(taken) < count:
            if not (more := await self._next()):
                raise asyncio.IncompleteReadError(taken, count)
            taken, self._served = taken + more[: count - len(taken)], more[count - len(taken) :]
        return taken

    async def _next(self) -> bytes:
        """Return the next frame that nobody takes, or what is left at the end of the stream."""
        while True:
            if self._missing <= 0 and (frame := self._untaken()) is not None:
                return frame
            more = await self._reader.read(_CHUNK)
            self.heard = self._clock()
            self._pieces.append(more)
            self._missing -= len(more)
            if self._missing <= 0 or not more:
                self._buffer, self._at = b"".join((self._buffer[self._at :], *self._pieces)), 0
                self._pieces.clear()
            if not more:
                left, self._buffer = self._buffer, b""
                return left

    def _untaken(self) -> bytes | None:
        """Hand whole frames to their takers. Return the first one without, or None if more has to be read."""
        buffer, at, takers = self._buffer, self._at, self.takers
        available = len(buffer) - OVERHEAD
        try:
            while at <= available:
                kind, channel, size = FRAME_HEAD.unpack_from(buffer, at)
                begin = at + FRAME_HEAD.size
                if at + size > available:
                    self._missing = at + size - available
                    return None
                end = begin + size
                at = end + 1
                taker = takers.get(channel)
                if taker is None or not taker(kind, buffer, begin, end):
                    frame = buffer[begin - FRAME_HEAD.size : at]
                    return frame if kind != HEADER else _readable(frame)
            return None
        finally:
            self._at = at

    def at_eof(self) -> bool:
        return not self._served and self._at >= len(self._buffer) and self._reader.at_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def _readable(frame: bytes) -> bytes:
    """Return a content header's frame, or one with the decoding error in its place: aiormq would end the connection."""
    try:
        pamqp.frame.unmarshal(frame)
    except Exception as error:  # noqa: BLE001 - deep nesting is a RecursionError, a far date is an OverflowError
        _, channel, _ = pamqp.frame.frame_parts(frame)
        header = ContentHeader(body_size=int.from_bytes(frame[11:19]), properties=unreadable(error))
        return pamqp.frame.marshal(header, channel)
    return frame


def unreadable(error: Exception) -> Basic.Properties:
    """Return the properties in place of those that can't be decoded."""
    return Basic.Properties(headers={Header.UNREADABLE: str(error)[:200] or type(error).__name__})


class GatheringWriter:
    """A StreamWriter with one write to the socket per turn of the event loop."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: list[bytes] = []
        self._gathered = 0
        """Bytes of `_waiting`."""
        self._loop = asyncio.get_running_loop()

    def write(self, *parts: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting += parts
        self._gathered += sum(map(len, parts))
        if self._gathered > _CHUNK:  # what waits for the socket is counted there
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            gathered = b"".join(self._waiting)
            self._waiting.clear()
            self._gathered = 0
            if not self._writer.is_closing():  # asyncio takes no bytes after the end
                self._writer.write(gathered)

    @property
    def is_full(self) -> bool:
        """True if the broker reads more slowly than this process writes: wait for `drain`."""
        return self._writer.transport.get_write_buffer_size() > _BUFFERED

    async def drain(self) -> None:
        self._flush()
        await self._writer.drain()

    def write_eof(self) -> None:
        self._flush()
        self._writer.write_eof()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
