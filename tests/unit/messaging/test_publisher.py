"""A publisher's results when its connection breaks, with a fake channel."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import socket
import struct
from dataclasses import replace
from typing import Any

import aiormq.abc
import aiormq.channel
import aiormq.connection
import pytest
from aiormq import exceptions as amqp
from pamqp.commands import Basic

from kryonix.messaging import (
    AccessRefused,
    MemoryBroker,
    MessagingClient,
    MessagingError,
    NotConnected,
    NotSerializable,
    QueueFull,
    SendTimedOut,
)
from kryonix.messaging.amqp.link import REPORTED, Link
from kryonix.messaging.amqp.publisher import Publisher
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.memory import MemoryTransport
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
        self.published = 0

    async def basic_publish(self, body: bytes, **_: Any) -> None:
        self.published += 1
        if self._errors:
            raise self._errors.pop(0)


def within(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def publisher(*errors: BaseException) -> Publisher:
    link: Any = Link(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme"), "x", None, 60)
    made = Publisher(link)
    channel: Any = Channel(*errors)
    made._live = channel
    return made


async def times_published(*errors: BaseException) -> int:
    sender = publisher(*errors)
    channel: Any = sender._live
    await sender.publish(MESSAGE, within(10))
    return int(channel.published)


async def test_an_interrupted_message_is_published_again() -> None:
    assert await times_published(CUT, asyncio.CancelledError(), CUT) == 4


async def test_an_unexplained_end_of_a_wait_is_a_disconnect() -> None:
    assert await times_published(Exception()) == 2


async def test_a_waiting_message_names_why_there_is_no_connection() -> None:
    waiting = publisher()
    waiting._live = None
    waiting._link._error = AccessRefused("the tenant is suspended")
    with pytest.raises(AccessRefused, match=r"the tenant is suspended; waited 0\.\d* s"):
        await waiting.publish(MESSAGE, within(0.1))


async def test_a_refusal_says_that_the_message_is_not_stored() -> None:
    with pytest.raises(QueueFull, match=r"the queue of crm\.leads\.create\.medium is full"):
        await publisher(FULL).publish(MESSAGE, within(10))


@pytest.mark.parametrize("errors", [(FULL,), (CUT, FULL), (FORBIDDEN,)], ids=["full", "unknown", "forbidden"])
async def test_a_failed_send_names_its_message(errors: tuple[BaseException, ...]) -> None:
    class Transport(MemoryTransport):
        async def publish(self, envelope: Envelope, timeout: float) -> None:
            await publisher(*errors).publish(envelope, within(timeout))

    client = MessagingClient(Transport(MemoryBroker("acme", modules=["crm"])), "acme", application="shop")
    with pytest.raises(MessagingError, match=r"^message m-1: (the queue|cut off|the user)") as failure:
        await client.crm.send("leads.create", {}, message_id="m-1")
    assert failure.value.message_id == "m-1"
    await client.close()


async def test_a_refusal_after_a_disconnect_leaves_storage_unknown() -> None:
    with pytest.raises(SendTimedOut, match=r"cut off before the broker's answer, then the queue .* is full") as failure:
        await publisher(CUT, FULL).publish(MESSAGE, within(10))
    assert "same message_id" in failure.value.remedy


async def test_a_publisher_without_permission_gets_that_reason() -> None:
    with pytest.raises(AccessRefused, match="no permission to publish"):
        await publisher(FORBIDDEN).publish(MESSAGE, within(10))


async def test_a_send_waits_for_a_connection_until_its_own_deadline() -> None:
    transport = AmqpTransport(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme"), "x", None, 60)
    patient = asyncio.create_task(transport.publish(MESSAGE, 3600))
    await asyncio.sleep(0.05)
    for call in (transport.publish(MESSAGE, 0.1), transport.subscribe(["queue"], 1, lambda delivery: None, 0.1, 60)):
        with pytest.raises(NotConnected):
            await asyncio.wait_for(call, 30)
    patient.cancel()
    await asyncio.gather(patient, return_exceptions=True)


async def test_headers_larger_than_a_frame_are_refused_before_sending() -> None:
    large = replace(MESSAGE, headers={"h": "x" * 131_072})
    with pytest.raises(NotSerializable, match=r"131,\d{3} bytes, the broker takes at most 131,072 in a frame"):
        await publisher(AssertionError("it was sent")).publish(large, within(10))


async def test_unwritable_headers_are_refused_without_retries() -> None:
    with pytest.raises(NotSerializable, match="can't be written"):
        await publisher(AssertionError("it was sent")).publish(replace(MESSAGE, headers={"h": {1, 2}}), within(3600))


LARGE = amqp.ChannelPreconditionFailed("PRECONDITION_FAILED - message size 30 is larger than configured max size 20")


async def test_an_oversized_message_is_refused_and_its_neighbour_resent() -> None:
    with pytest.raises(NotSerializable, match="30 bytes, the broker takes at most 20"):
        await publisher(LARGE).publish(replace(MESSAGE, body=b"x" * 30), within(10))
    await publisher(LARGE).publish(MESSAGE, within(10))


async def test_an_unreachable_broker_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotConnected, match="no connection to amqp"):
        await MessagingClient.connect("amqp://kryonix_acme:hidden@127.0.0.1:1/%2Fcliente_acme", timeout=0.5)
    assert [(record.name, record.levelname) for record in caplog.records] == [("kryonix.messaging", "WARNING")]


async def test_each_reason_of_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = 0

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        if attempts % 2:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(NotConnected, match="no connection to amqp"):
            await MessagingClient.connect(f"amqp://kryonix_acme:x@127.0.0.1:{port}/%2Fcliente_acme", timeout=3)
    messages = [record.getMessage() for record in caplog.records]
    assert attempts > len(messages) == len(set(messages)) == 2


def test_what_the_sdk_reports_is_left_out_of_aiormqs_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="aiormq")  # commands run by other tests set it
    modules = (aiormq.abc, aiormq.channel, aiormq.connection)
    trees = [ast.walk(ast.parse(inspect.getsource(module))) for module in modules]
    texts = [node.value for tree in trees for node in tree if isinstance(node, ast.Constant)]
    for entry in REPORTED:
        assert any(str(text).startswith(entry) for text in texts), f"aiormq logs no {entry!r} any more"
        for module in modules:
            logging.getLogger(module.__name__).error(entry + " …")
    assert not caplog.records
    logging.getLogger("aiormq.connection").warning("Connection %r was blocked by: %r", 1, 2)
    assert len(caplog.records) == 1
