"""What a publisher says of a message when its connection breaks: told from a link that does what it is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiormq import exceptions as amqp
from pamqp.commands import Basic

from kryonix.messaging import AccessRefused, NotConnected, NotSerializable, QueueFull, SendTimedOut
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.publisher import Publisher
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.message import Envelope

pytestmark = pytest.mark.anyio

MESSAGE = Envelope("cliente_acme", "crm.leads.create.medium", b"{}", "m-1")
FULL = amqp.DeliveryError(None, Basic.Nack())
CUT = ConnectionError("cut")
FORBIDDEN = amqp.ChannelAccessRefused("ACCESS_REFUSED - write access to exchange 'cliente_acme' refused")


class Channel:
    """Answers each publish with the next of its errors, and confirms once there is none left."""

    is_closed = False

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    async def basic_publish(self, body: bytes, **_: Any) -> None:
        if self._errors:
            raise self._errors.pop(0)


def publisher(*errors: BaseException) -> Publisher:
    link: Any = Link(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme"), "x", None, 60)
    made = Publisher(link)
    channel: Any = Channel(*errors)
    made._live = channel
    return made


async def test_a_message_that_was_cut_off_is_published_again_and_confirmed() -> None:
    await publisher(CUT, asyncio.CancelledError(), CUT).publish(MESSAGE, 10)


async def test_a_wait_that_aiormq_ends_without_a_reason_is_a_cut_too() -> None:
    await publisher(Exception()).publish(MESSAGE, 10)


async def test_why_there_is_no_connection_is_said_of_a_message_that_waits_for_one() -> None:
    waiting = publisher()
    waiting._live = None
    waiting._link._error = AccessRefused("the tenant is suspended")
    with pytest.raises(AccessRefused, match=r"the tenant is suspended; waited 0\.\d* s"):
        await waiting.publish(MESSAGE, 0.1)


async def test_a_refusal_says_that_the_message_is_not_stored() -> None:
    with pytest.raises(QueueFull) as failure:
        await publisher(FULL).publish(MESSAGE, 10)
    assert failure.value.message_id == "m-1"


async def test_a_refusal_after_a_cut_does_not_say_so_because_the_first_copy_may_be() -> None:
    with pytest.raises(SendTimedOut, match=r"cut off before the broker's answer, then the queue .* is full") as failure:
        await publisher(CUT, FULL).publish(MESSAGE, 10)
    assert failure.value.message_id == "m-1"
    assert "same message_id" in failure.value.remedy


async def test_who_may_not_publish_is_told_that_and_not_that_nothing_is_known() -> None:
    with pytest.raises(AccessRefused, match="no permission to publish") as failure:
        await publisher(FORBIDDEN).publish(MESSAGE, 10)
    assert failure.value.message_id == "m-1"


async def test_who_waits_while_another_connects_waits_no_longer_than_for_its_own_deadline() -> None:
    transport = AmqpTransport(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme"), "x", None, 60)
    patient = asyncio.create_task(transport.publish(MESSAGE, 3600))
    await asyncio.sleep(0.05)
    for call in (transport.publish(MESSAGE, 0.1), transport.subscribe(["queue"], 1, lambda delivery: None, 0.1)):
        with pytest.raises(NotConnected):
            await asyncio.wait_for(call, 30)
    patient.cancel()
    await asyncio.gather(patient, return_exceptions=True)


async def test_headers_that_are_larger_than_a_frame_are_refused_before_anything_is_sent() -> None:
    large = replace(MESSAGE, headers={"h": "x" * 131_072})
    with pytest.raises(
        NotSerializable, match=r"131,\d{3} bytes, the broker takes at most 131,072 in a frame"
    ) as failure:
        await publisher(AssertionError("it was sent")).publish(large, 10)
    assert failure.value.message_id == "m-1"


async def test_headers_that_cant_be_written_are_refused_once_and_not_tried_until_the_deadline() -> None:
    with pytest.raises(NotSerializable, match="can't be written"):
        await publisher(AssertionError("it was sent")).publish(replace(MESSAGE, headers={"h": {1, 2}}), 3600)


LARGE = amqp.ChannelPreconditionFailed("PRECONDITION_FAILED - message size 30 is larger than configured max size 20")


async def test_a_message_that_is_larger_than_the_broker_takes_is_refused_and_one_beside_it_is_sent_again() -> None:
    with pytest.raises(NotSerializable, match="30 bytes, the broker takes at most 20"):
        await publisher(LARGE).publish(replace(MESSAGE, body=b"x" * 30), 10)
    await publisher(LARGE).publish(MESSAGE, 10)
