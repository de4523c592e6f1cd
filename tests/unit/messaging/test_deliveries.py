"""A channel that consumes, fed with a broker's frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import aiormq
import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.commands import Channel as Method
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.deliveries import DeliveryChannel
from kryonix.messaging.message import Envelope, Header
from tests.support.wire import Channel, Wire

pytestmark = pytest.mark.anyio


class Made:
    def __init__(self) -> None:
        self.wire, self.channel = Wire(), Channel()
        connection: Any = self.wire
        channel: Any = self.channel
        self.deliveries = DeliveryChannel(connection, channel)
        self.arrived: list[tuple[int, bool, Envelope]] = []
        self.deliveries.on_delivery("tag", lambda *delivery: self.arrived.append(delivery))

    def deliver(self, body: bytes, *, pieces: int = 1, tag: str = "tag", again: bool = False) -> None:
        self.wire.send(Basic.Deliver(tag, 7, again, "exchange", "key"))
        self.wire.send(ContentHeader(body_size=len(body), properties=Basic.Properties(message_id="m", priority=3)))
        size = -(-len(body) // pieces)
        for at in range(0, len(body), size or 1):
            self.wire.send(ContentBody(body[at : at + size]))


@pytest.mark.parametrize(("body", "pieces"), [(b"", 1), (b"{}", 1), (b"0123456789", 3)])
async def test_a_message_is_put_together_from_its_frames(body: bytes, pieces: int) -> None:
    made = Made()
    made.deliver(body, pieces=pieces, again=True)
    made.deliver(b"next")
    (tag, again, envelope), (_, second, following) = made.arrived
    assert (tag, again, second) == (7, True, False)
    assert (envelope.exchange, envelope.routing_key, envelope.body) == ("exchange", "key", body)
    assert (envelope.message_id, envelope.priority, following.body) == ("m", 3, b"next")


async def test_messages_of_a_consumer_that_has_ended_are_left_to_the_broker() -> None:
    made = Made()
    made.deliver(b"x", tag="another")
    made.deliver(b"y")
    assert [envelope.body for _, _, envelope in made.arrived] == [b"y"]


async def test_a_routing_key_in_another_encoding_is_escaped() -> None:
    made = Made()
    deliver = pamqp.frame.marshal(Basic.Deliver("tag", 1, False, "exchange", "key"), 1)
    made.wire.send_bytes(deliver.replace(b"\x03key", b"\x03k\xffy"))
    made.wire.send(ContentHeader(body_size=0, properties=Basic.Properties(message_id="m")))
    assert made.arrived[0][2].routing_key == r"k\xffy"


async def test_unreadable_properties_have_the_reason_and_end_nothing() -> None:
    made = Made()
    made.wire.send(Basic.Deliver("tag", 1, False, "exchange", "key"))
    header = pamqp.frame.marshal(ContentHeader(body_size=0, properties=Basic.Properties(message_id="xx")), 1)
    made.wire.send_bytes(header.replace(b"xx", b"\xff\xfe"))
    made.deliver(b"next")
    (_, _, first), (_, _, second) = made.arrived
    assert "utf-8" in first.headers[Header.UNREADABLE]
    assert second.body == b"next"


async def test_answers_are_those_of_amqp() -> None:
    made = Made()
    made.deliveries.ack(1)
    made.deliveries.reject(2, requeue=True)
    made.deliveries.reject(3, requeue=False)
    made.deliveries.give_back(2**40)
    ack, failed, dead, back = made.wire.frames
    assert (ack.name, ack.delivery_tag, ack.multiple) == ("Basic.Ack", 1, False)
    assert (failed.name, failed.delivery_tag, failed.requeue) == ("Basic.Reject", 2, True)
    assert (dead.name, dead.delivery_tag, dead.requeue) == ("Basic.Reject", 3, False)
    assert (back.name, back.delivery_tag, back.multiple, back.requeue) == ("Basic.Nack", 2**40, False, True)


async def test_a_channel_that_the_broker_closes_takes_no_more_answers() -> None:
    made = Made()
    assert not made.deliveries.ended
    assert not made.wire.send(Method.Close(406, "PRECONDITION_FAILED", 60, 80)), "aiormq has to answer it"
    assert made.deliveries.ended


async def test_a_channel_that_aiormq_gives_up_takes_no_more_answers() -> None:
    made = Made()
    made.channel.give_up()
    assert made.deliveries.ended


async def test_aiormq_still_notes_where_it_gives_up_a_channel() -> None:
    connection: Any = aiormq.Connection("amqp://localhost")
    connection.connection_tune = SimpleNamespace(frame_max=0)
    channel = aiormq.Channel(connection, 1, publisher_confirms=False)
    deliveries = DeliveryChannel(cast(Any, Wire()), channel)
    assert not deliveries.ended
    channel._close_locally()
    assert deliveries.ended
