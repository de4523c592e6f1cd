"""A publisher's results when its connection breaks, with a broker that exists only as frames."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import socket
import struct
from dataclasses import replace
from typing import Any, Literal

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
from kryonix.messaging.amqp import publisher
from kryonix.messaging.amqp.link import REPORTED, Link
from kryonix.messaging.amqp.publisher import Publisher
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.memory import MemoryTransport
from kryonix.messaging.message import Envelope
from tests.support.wire import Channel, Wire

pytestmark = pytest.mark.anyio

MESSAGE = Envelope("cliente_acme", "crm.leads.create.medium", b"{}", "m-1")
FORBIDDEN = amqp.ChannelAccessRefused("ACCESS_REFUSED - write access to exchange 'cliente_acme' refused")
Ending = Literal["cut", "full"] | Exception
"""What becomes of a message: its connection is cut, its queue is full, or its channel is closed for an error."""


def within(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


class Made:
    """A publisher whose messages end as `endings` say, and are stored once there is none left."""

    def __init__(self, *endings: Ending) -> None:
        self._endings = list(endings)
        self.published = 0
        own: Any = self
        self.link = Link(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme"), "x", None, 60)
        self.link._connection = own
        self.publisher = Publisher(self.link)

    async def open_channel(self, *, confirmed: bool) -> Channel:
        self._channel = Channel()
        return self._channel

    def __getattr__(self, name: str) -> Any:
        """Stand for the newest connection."""
        if name == "loop":
            self._wire = Wire(self._answer)
        return getattr(self._wire, name)

    def _answer(self, tag: int) -> None:
        self.published += 1
        ending = self._endings.pop(0) if self._endings else "stored"
        if ending == "cut":
            self.publisher.lost()
        elif isinstance(ending, Exception):
            self._channel.closing.set_exception(ending)
        else:
            self._wire.send(Basic.Nack(tag) if ending == "full" else Basic.Ack(tag))

    async def publish(self, envelope: Envelope = MESSAGE, patience: float = 10) -> int:
        """Return how often the message was published."""
        await self.publisher.publish(envelope, within(patience))
        return self.published


async def test_an_interrupted_message_is_published_again() -> None:
    assert await Made("cut", "cut", "cut").publish() == 4


async def test_an_unexplained_end_of_a_channel_is_a_disconnect() -> None:
    assert await Made(Exception()).publish() == 2


async def test_a_waiting_message_names_why_there_is_no_connection() -> None:
    made = Made()
    made.link._connection, made.link._error = None, AccessRefused("the tenant is suspended")
    with pytest.raises(AccessRefused, match=r"the tenant is suspended; waited 0\.\d* s"):
        await made.publish(patience=0.1)


async def test_a_refusal_says_that_the_message_is_not_stored() -> None:
    with pytest.raises(QueueFull, match=r"the queue of crm\.leads\.create\.medium is full"):
        await Made("full").publish()


async def test_a_message_is_given_up_at_its_deadline() -> None:
    made = Made()
    made._answer = lambda tag: None  # type: ignore[method-assign]  # the broker stays silent
    with pytest.raises(SendTimedOut, match=r"no confirmation within 0\.[12]\d* s"):
        await made.publish(patience=0.2)


async def test_messages_beyond_those_in_flight_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_MAX_IN_FLIGHT", 2)
    made, answer = Made(), asyncio.Event()
    usual = made._answer

    def slowly(tag: int) -> None:
        asyncio.get_running_loop().create_task(answer.wait()).add_done_callback(lambda _: usual(tag))

    made._answer = slowly  # type: ignore[method-assign]
    sending = [asyncio.create_task(made.publish(replace(MESSAGE, message_id=f"m-{number}"))) for number in range(5)]
    await asyncio.sleep(0.05)
    assert len(made._wire.written) == 2
    answer.set()
    await asyncio.gather(*sending)
    assert made.published == 5


async def test_each_message_waits_until_the_broker_reads_again() -> None:
    made, reads = Made(), asyncio.Event()
    await made.publish()
    made._wire.is_full = True

    async def drain() -> None:
        await reads.wait()
        made._wire.is_full = False

    usual = made._wire.write

    def write(*parts: bytes) -> None:
        usual(*parts)
        made._wire.is_full = True
        reads.clear()

    made._wire.drain, made._wire.write = drain, write  # type: ignore[method-assign]
    sending = [asyncio.create_task(made.publish()) for _ in range(3)]
    for published in (1, 2, 3):
        await asyncio.sleep(0.05)
        assert len(made._wire.written) == published
        reads.set()
    await asyncio.gather(*sending)


@pytest.mark.parametrize("ending", ["stored", "full"])
async def test_a_message_not_written_yet_leaves_a_lost_connection_at_once(ending: str) -> None:
    made = Made()
    await made.publish()
    made._wire.is_full = True
    made._wire.drain = asyncio.Event().wait  # type: ignore[method-assign, assignment]  # the node reads nothing any more
    waiting = asyncio.create_task(made.publish(patience=60))
    await asyncio.sleep(0.05)
    made._endings = ["full"] if ending == "full" else []
    made.publisher.lost()
    async with asyncio.timeout(20):
        await asyncio.wait([waiting])
    if ending == "full":
        assert isinstance(waiting.exception(), QueueFull), "it was written once only"
    assert made.published == 2


async def test_who_gives_up_waiting_for_a_turn_takes_none() -> None:
    turns = publisher._Turns(1)
    assert turns.take()
    early, granted, last = (asyncio.create_task(turns.wait()) for _ in range(3))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.sleep(0)
    turns.give_back()
    granted.cancel()  # in the turn of the event loop that gave it
    async with asyncio.timeout(20):
        await last
    assert early.cancelled()
    assert granted.cancelled()
    assert not turns.take()
    turns.give_back()
    assert turns.take()


async def test_giving_up_costs_no_look_at_all_others_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Future(asyncio.Future[Any]):
        looks = 0

        def done(self) -> bool:
            Future.looks += 1
            return super().done()

    turns = publisher._Turns(0)
    monkeypatch.setattr(asyncio.get_running_loop(), "create_future", Future)
    waiting = [asyncio.create_task(turns.wait()) for _ in range(200)]
    await asyncio.sleep(0)
    for task in waiting[:150]:
        task.cancel()
    for _ in range(50):
        turns.give_back()
    await asyncio.wait(waiting)
    assert sum(not task.cancelled() for task in waiting) == 50
    assert Future.looks < 1_000


@pytest.mark.parametrize("endings", [("full",), ("cut", "full"), (FORBIDDEN,)], ids=["full", "unknown", "forbidden"])
async def test_a_failed_send_names_its_message(endings: tuple[Ending, ...]) -> None:
    class Transport(MemoryTransport):
        async def publish(self, envelope: Envelope, timeout: float) -> None:
            await Made(*endings).publish(envelope, timeout)

    client = MessagingClient(Transport(MemoryBroker("acme", modules=["crm"])), "acme", application="shop")
    with pytest.raises(MessagingError, match=r"^message m-1: (the queue|cut off|the user)") as failure:
        await client.crm.send("leads.create", {}, message_id="m-1")
    assert failure.value.message_id == "m-1"
    await client.close()


async def test_a_refusal_after_a_disconnect_leaves_storage_unknown() -> None:
    with pytest.raises(SendTimedOut, match=r"cut off before the broker's answer, then the queue .* is full") as failure:
        await Made("cut", "full").publish()
    assert "same message_id" in failure.value.remedy


async def test_a_publisher_without_permission_gets_that_reason() -> None:
    with pytest.raises(AccessRefused, match="no permission to publish"):
        await Made(FORBIDDEN).publish()


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
    made, large = Made(), replace(MESSAGE, headers={"h": "x" * 131_072})
    with pytest.raises(NotSerializable, match=r"131,\d{3} bytes, the broker takes at most 131,072 in a frame"):
        await made.publish(large)
    assert not made.published


async def test_a_routing_key_without_room_in_a_frame_is_refused() -> None:
    made, long = Made(), replace(MESSAGE, routing_key="\\xff" * 100)
    with pytest.raises(NotSerializable, match=r"routing key .* can't be written.*255 bytes"):
        await made.publish(long)
    assert not made.published


async def test_unwritable_headers_are_refused_without_retries() -> None:
    made = Made()
    with pytest.raises(NotSerializable, match="can't be written"):
        await made.publish(replace(MESSAGE, headers={"h": {1, 2}}), 3600)
    assert not made.published


LARGE = amqp.ChannelPreconditionFailed("PRECONDITION_FAILED - message size 30 is larger than configured max size 20")


async def test_an_oversized_message_is_refused_and_its_neighbour_resent() -> None:
    with pytest.raises(NotSerializable, match="30 bytes, the broker takes at most 20"):
        await Made(LARGE).publish(replace(MESSAGE, body=b"x" * 30))
    assert await Made(LARGE).publish() == 2


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
