from __future__ import annotations

import asyncio
import struct
from typing import Any, cast

import pytest
from aiormq.connection import FrameReceiver
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.wire import _TolerantReader, is_unreadable
from kryonix.messaging.message import Header

pytestmark = pytest.mark.anyio

GOOD = ContentHeader(body_size=2, properties=commands.Basic.Properties(message_id="good", content_type="text/plain"))
BODY = ContentBody(b"{}")


def spoiled(text: bytes) -> bytes:
    """Return a content header with these bytes as message id."""
    readable = ContentHeader(body_size=7, properties=commands.Basic.Properties(message_id="x" * len(text)))
    return frame.marshal(readable, 3).replace(b"x" * len(text), text)


async def received(*frames: bytes) -> list[tuple[int, Any]]:
    """Channel and frame of each, as aiormq reads them."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"".join(frames))
    receiver = FrameReceiver(cast(asyncio.StreamReader, _TolerantReader(reader)))
    return [(channel, found) for _, channel, found in [await receiver.get_frame() for _ in frames]]


async def test_readable_frames_are_read_unchanged() -> None:
    heartbeat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    deliver = frame.marshal(commands.Basic.Deliver("tag", 1, False, "exchange", "key"), 3)
    found = await received(deliver, frame.marshal(GOOD, 3), frame.marshal(BODY, 3), heartbeat)
    assert [channel for channel, _ in found] == [3, 3, 3, 0]
    assert found[0][1].routing_key == "key"
    assert (found[1][1].properties.message_id, found[1][1].body_size, found[2][1].value) == ("good", 2, b"{}")


async def test_undecodable_properties_are_replaced_by_the_reason() -> None:
    ((channel, first), (_, body), (_, second)) = await received(
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
    ((_, first), (_, second)) = await received(frame_of, frame.marshal(GOOD, 3))
    assert "recursion" in first.properties.headers[Header.UNREADABLE]
    assert second.properties.message_id == "good"


@pytest.mark.parametrize("error", [RecursionError("maximum recursion depth exceeded"), OverflowError("too large")])
def test_errors_of_unreadable_properties_are_recognized(error: Exception) -> None:
    assert is_unreadable(error)
    assert not is_unreadable(ConnectionError("cut"))
