"""What is read from and written to the socket: whole frames to their takers, the others to aiormq."""

from __future__ import annotations

import asyncio
import inspect
import struct
from typing import Any, cast

import aiormq.connection
import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError, ProtocolSyntaxError
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from kryonix.messaging.amqp.connection import Connection
from kryonix.messaging.amqp.frames import FrameReader, GatheringWriter
from kryonix.messaging.message import Header

pytestmark = pytest.mark.anyio

GOOD = ContentHeader(body_size=2, properties=commands.Basic.Properties(message_id="good", content_type="text/plain"))
BODY = ContentBody(b"{}")
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def spoiled(text: bytes) -> bytes:
    """Return a content header with these bytes as message id."""
    readable = ContentHeader(body_size=7, properties=commands.Basic.Properties(message_id="x" * len(text)))
    return frame.marshal(readable, 3).replace(b"x" * len(text), text)


class Socket:
    """A reader's end, and aiormq's receiver on it."""

    def __init__(self) -> None:
        self.stream = asyncio.StreamReader()
        self.reader = FrameReader(self.stream)
        self.receiver = FrameReceiver(cast(asyncio.StreamReader, self.reader))

    async def received(self, *frames: bytes) -> list[tuple[int, Any]]:
        """Return channel and frame of each, as aiormq reads them."""
        self.stream.feed_data(b"".join(frames))
        return [(channel, found) for _, channel, found in [await self.receiver.get_frame() for _ in frames]]


async def test_frames_that_nobody_takes_reach_aiormq_unchanged() -> None:
    deliver = frame.marshal(commands.Basic.Deliver("tag", 1, False, "exchange", "key"), 3)
    found = await Socket().received(deliver, frame.marshal(GOOD, 3), frame.marshal(BODY, 3), HEARTBEAT)
    assert [channel for channel, _ in found] == [3, 3, 3, 0]
    assert found[0][1].routing_key == "key"
    assert (found[1][1].properties.message_id, found[1][1].body_size, found[2][1].value) == ("good", 2, b"{}")


@pytest.mark.parametrize("chunk", [1, 7, 8, 100, 10_000])
async def test_frames_are_taken_whole_however_they_arrive(chunk: int) -> None:
    socket = Socket()
    taken: list[tuple[int, bytes]] = []

    def take(kind: int, buffer: bytes, begin: int, end: int) -> bool:
        taken.append((kind, buffer[begin:end]))
        return kind == 3

    socket.reader.takers[3] = take
    bodies = [bytes([number]) * number * 10 for number in range(1, 20)]
    data = b"".join(frame.marshal(ContentBody(body), 3) + HEARTBEAT for body in bodies)
    data += frame.marshal(commands.Channel.Close(404, "gone", 60, 40), 3)
    for at in range(0, len(data), chunk):
        socket.stream.feed_data(data[at : at + chunk])
    for _ in bodies:
        assert isinstance((await socket.receiver.get_frame())[2], Heartbeat)
    assert isinstance((await socket.receiver.get_frame())[2], commands.Channel.Close), "not taken"
    assert [body for kind, body in taken if kind == 3] == bodies
    assert taken[-1][0] == 1


async def test_a_frame_larger_than_what_is_read_at_once_is_joined_once() -> None:
    socket, body = Socket(), bytes(range(256)) * 8_000
    taken: list[bytes] = []

    def take(kind: int, buffer: bytes, begin: int, end: int) -> bool:
        taken.append(buffer[begin:end])
        return True

    socket.reader.takers[3] = take
    data = frame.marshal(ContentBody(body), 3) + HEARTBEAT
    reading = asyncio.create_task(socket.receiver.get_frame())
    joined = set[int]()
    for at in range(0, len(data), 65_536):
        socket.stream.feed_data(data[at : at + 65_536])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        joined.add(len(socket.reader._buffer))
    assert isinstance((await reading)[2], Heartbeat)
    assert taken == [body]
    assert len(joined) <= 3, "else a frame of 64 MB takes 20 s"


async def test_the_end_in_the_middle_of_a_frame_is_a_lost_connection() -> None:
    socket = Socket()
    socket.stream.feed_data(frame.marshal(BODY, 3)[:-4])
    socket.stream.feed_eof()
    with pytest.raises(AMQPConnectionError, match="unexpectedly closed"):
        await socket.receiver.get_frame()


async def test_the_end_between_frames_ends_the_reading() -> None:
    socket = Socket()
    socket.stream.feed_data(HEARTBEAT)
    socket.stream.feed_eof()
    await socket.receiver.get_frame()
    with pytest.raises(StopAsyncIteration):
        await socket.receiver.get_frame()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"AMQP\x00\x00\x09\x01", ProtocolSyntaxError, "Unexpected AMQP protocol header"),
        (b"\x15\x03\x03\x00\x02\x02\x28", AMQPConnectionError, r"Read 0 bytes but 131\d\d\d bytes expected"),
    ],
    ids=["version", "tls"],
)
async def test_what_is_not_amqp_has_aiormqs_error(answer: bytes, error: type[Exception], text: str) -> None:
    socket = Socket()
    socket.stream.feed_data(answer)
    socket.stream.feed_eof()
    with pytest.raises(error, match=text):
        await socket.receiver.get_frame()


async def test_undecodable_properties_are_replaced_by_the_reason() -> None:
    ((channel, first), (_, body), (_, second)) = await Socket().received(
        spoiled(b"\xff\xfe"), frame.marshal(BODY, 3), frame.marshal(GOOD, 3)
    )
    assert (channel, first.body_size, first.properties.message_id) == (3, 7, None)
    assert "utf-8" in first.properties.headers[Header.UNREADABLE]
    assert body.value == b"{}"
    assert second.properties.message_id == "good"


async def test_too_deep_headers_are_replaced_by_the_reason() -> None:
    nested = b"V"
    for _ in range(5_000):
        nested = b"A" + struct.pack(">I", len(nested)) + nested
    table = b"\x01h" + nested
    payload = struct.pack(">HHQH", 60, 0, 7, 1 << 13) + struct.pack(">I", len(table)) + table
    frame_of = struct.pack(">BHI", 2, 3, len(payload)) + payload + b"\xce"
    ((_, first), (_, second)) = await Socket().received(frame_of, frame.marshal(GOOD, 3))
    assert "recursion" in first.properties.headers[Header.UNREADABLE]
    assert second.properties.message_id == "good"


async def test_frames_of_one_turn_are_written_at_once_and_in_order() -> None:
    written: list[bytes] = []

    class Stream:
        closing = False

        def write(self, data: bytes) -> None:
            written.append(data)

        def is_closing(self) -> bool:
            return self.closing

    stream: Any = Stream()
    writer = GatheringWriter(stream)
    writer.write(b"1", b"2")
    writer.write(b"3")
    assert not written
    await asyncio.sleep(0)
    writer.write(b"4")
    await asyncio.sleep(0)
    assert written == [b"123", b"4"]
    writer.write(bytes(300_000))
    assert len(written) == 3, "counted as waiting for the socket"
    writer.write(b"5")
    stream.closing = True
    await asyncio.sleep(0)
    assert len(written) == 3, "asyncio takes nothing after the end"


def test_aiormq_still_has_what_the_connection_builds_on() -> None:
    """Of its internals: a pinned version is the only one this was tried with."""
    source = inspect.getsource(aiormq.connection)
    assert "self.__connection_unblocked" in source
    assert "self.is_connection_was_stuck" in source
    assert "self._transport_factory.create(" in source
    assert "FrameReceiver(reader)" in source
    assert {"_rpc", "is_connection_was_stuck"} <= vars(aiormq.Connection).keys() & vars(Connection).keys()
    reads = inspect.getsource(FrameReceiver.get_frame)
    assert reads.count("readexactly(") == 3
    assert "readexactly(1)" in reads
