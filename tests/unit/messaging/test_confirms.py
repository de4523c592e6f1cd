"""A channel in confirm mode, fed with a broker's frames."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq import exceptions as amqp
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.commands import Channel as Method

from kryonix.messaging import AccessRefused, NotRoutable, NotSerializable, QueueFull
from kryonix.messaging.amqp.confirms import Answer, ConfirmChannel
from kryonix.messaging.amqp.properties import encode_properties
from kryonix.messaging.message import Envelope
from tests.support.wire import Channel, Wire

pytestmark = pytest.mark.anyio


class Made:
    def __init__(self, frame_max: int = 131_072) -> None:
        self.wire, self.channel = Wire(frame_max=frame_max), Channel()
        connection: Any = self.wire
        channel: Any = self.channel
        self.confirms = ConfirmChannel(connection, channel)

    def publish(self, number: int, body: bytes = b"{}", patience: float = 60.0) -> asyncio.Future[Answer]:
        envelope = Envelope("cliente_acme", "crm.leads.create.medium", body, f"m-{number}")
        deadline = asyncio.get_running_loop().time() + patience
        return self.confirms.publish(envelope, encode_properties(envelope), deadline)


@pytest.mark.parametrize("size", [0, 1, 4_088, 4_089, 8_176, 10_000])
async def test_a_message_is_written_whole_in_frames_that_fit(size: int) -> None:
    made = Made(frame_max=4_096)
    body = bytes(range(256)) * 40
    made.publish(1, body[:size])
    method, header, *pieces = made.wire.frames
    assert (method.exchange, method.routing_key, method.mandatory) == ("cliente_acme", "crm.leads.create.medium", True)
    assert (header.body_size, header.properties.message_id, header.properties.delivery_mode) == (size, "m-1", 2)
    assert all(isinstance(piece, ContentBody) and len(piece.value) <= 4_088 for piece in pieces)
    assert b"".join(piece.value for piece in pieces) == body[:size]


async def test_each_confirmation_reaches_its_own_message() -> None:
    made = Made()
    first, second, third, fourth = (made.publish(number) for number in range(1, 5))
    made.wire.send(Basic.Ack(3))
    assert [each.done() for each in (first, second, third, fourth)] == [False, False, True, False]
    made.wire.send(Basic.Ack(2, multiple=True))
    made.wire.send(Basic.Nack(4))
    assert (first.result(), second.result(), third.result()) == ("stored", "stored", "stored")
    refused = fourth.result()
    assert isinstance(refused, QueueFull)
    assert refused.problem == "the queue of crm.leads.create.medium is full"
    assert not made.confirms.waiting


async def test_an_answer_to_many_leaves_those_after_it_due() -> None:
    made = Made()
    answers = [made.publish(number) for number in range(1, 1_001)]
    for last in (1, 400, 999):
        made.wire.send(Basic.Ack(last, multiple=True))
        assert sum(each.done() for each in answers) == last
    assert made.confirms.waiting


async def test_a_returned_message_is_refused_though_it_is_confirmed_next() -> None:
    made = Made()
    first, second, twin = made.publish(1), made.publish(2), made.publish(2)
    made.wire.give_back("m-2", "cliente_acme", "crm.leads.create.medium")
    made.wire.send(Basic.Ack(3, multiple=True))
    assert first.result() == "stored"
    refused = second.result()
    assert isinstance(refused, NotRoutable)
    assert refused.problem == "no queue takes crm.leads.create.medium from cliente_acme"
    assert twin.result() == "stored"


async def test_a_return_concerns_the_route_it_names_also_if_the_id_is_the_same() -> None:
    made = Made()
    stored = made.publish(1)
    lost = Envelope("cliente_acme", "crm.leads.lost", b"{}", "m-1")
    answer = made.confirms.publish(lost, encode_properties(lost), asyncio.get_running_loop().time() + 60)
    made.wire.give_back("m-1", "cliente_acme", "crm.leads.lost")
    made.wire.send(Basic.Ack(2, multiple=True))
    assert stored.result() == "stored"
    assert isinstance(answer.result(), NotRoutable)


async def test_an_answer_to_many_looks_only_at_what_is_due() -> None:
    class Due(dict[int, Any]):
        popped = 0

        def pop(self, *args: Any) -> Any:
            self.popped += 1
            return super().pop(*args)

    made = Made()
    made.confirms._due = due = Due()
    answers = [made.publish(number) for number in range(1, 101)]
    for number in (2, 1, *range(3, 101)):
        made.wire.send(Basic.Ack(number))
    answers += [made.publish(101), made.publish(102)]
    made.wire.send(Basic.Ack(102, multiple=True))
    assert {each.result() for each in answers} == {"stored"}
    assert due.popped == len(answers)


async def test_messages_end_as_late_each_at_its_own_deadline() -> None:
    made = Made()
    patient, hasty, hastier = made.publish(1), made.publish(2, patience=1.5), made.publish(3, patience=0.1)
    assert await hastier == "late"
    assert not hasty.done()
    assert await hasty == "late"
    made.wire.send(Basic.Ack(3, multiple=True))
    assert patient.result() == "stored"


async def test_a_lost_connection_cuts_off_what_is_due() -> None:
    made = Made()
    answer = made.publish(1)
    made.confirms.cut_off()
    assert (answer.result(), made.confirms.ended, made.confirms.waiting) == ("cut off", True, False)


async def test_nothing_is_written_once_the_broker_closes_the_channel() -> None:
    made = Made()
    answer = made.publish(1)
    assert not made.wire.send(Method.Close(404, "NOT_FOUND", 60, 40)), "aiormq has to answer it"
    assert made.confirms.ended
    assert not answer.done(), "the reason follows"


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        (amqp.ChannelNotFoundEntity("no exchange 'cliente_acme' in vhost"), NotRoutable, "there is no exchange"),
        (amqp.ChannelAccessRefused("write access to exchange 'cliente_acme' refused"), AccessRefused, "no permission"),
        (
            amqp.ChannelPreconditionFailed("message size 30 is larger than configured max size 20"),
            NotSerializable,
            "the message is 30 bytes, the broker takes at most 20",
        ),
    ],
    ids=["exchange", "permission", "size"],
)
async def test_the_reason_of_a_closed_channel_reaches_whom_it_concerns(
    error: Exception, kind: type[Exception], problem: str
) -> None:
    made = Made()
    concerned = made.publish(1, b"x" * 30)
    other = Envelope("another", "key", b"{}", "m-2")
    unconcerned = made.confirms.publish(other, encode_properties(other), asyncio.get_running_loop().time() + 60)
    made.channel.closing.set_exception(error)
    answer = await concerned
    assert isinstance(answer, kind)
    assert problem in str(answer)
    assert await unconcerned == "cut off"


async def test_an_answer_for_a_cancelled_sender_disturbs_nobody() -> None:
    made = Made()
    cancelled, other = made.publish(1), made.publish(2)
    cancelled.cancel()
    made.wire.send(Basic.Ack(2, multiple=True))
    assert other.result() == "stored"
