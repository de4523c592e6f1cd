"""Messages too large for the broker are reported at once and affect no others."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator

import pytest

from kryonix.messaging import Message, MessagingClient, NotSerializable, Reject
from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import Address, parse_uri
from kryonix.messaging.message import Envelope, Header
from kryonix.topology.naming import Names
from tests.integration.messaging.conftest import catalog_of
from tests.support.amqp import Account, ready, take
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

NAMES = Names("sdk")


@pytest.fixture
def address(emptied: dict[str, tuple[str, str]]) -> Address:
    return parse_uri(*emptied["sdk"])


@pytest.fixture
async def client(address: Address, anyio_backend: str) -> AsyncIterator[MessagingClient]:
    connecting = MessagingClient.connect(address.uri(), application="large", catalog=catalog_of("sdk"))
    async with await connecting as made:
        yield made


async def _post(operator: Account, headers: dict[str, object]) -> None:
    """Publish with headers that the SDK would not send."""
    properties = ExactProperties(headers=headers, message_id="large", delivery_mode=2)
    async with operator.at(NAMES.vhost).channel() as channel:
        underlay = await channel.get_underlay_channel()
        key = NAMES.routing_key("crm", "tasks.assign", "low")
        await underlay.basic_publish(b"{}", exchange=NAMES.exchange, routing_key=key, properties=properties)


async def test_a_rejected_message_with_oversized_headers_is_dead_lettered(
    client: MessagingClient, operator: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(message: Message) -> None:
        raise Reject("because")

    await client.crm.send("contacts.sync", {})  # the publishing connection is open
    consumer = await client.crm.consume("tasks.assign", Seen(refuse))
    began = time.monotonic()
    await _post(operator, {"h": "x" * 131_000})
    sends = [client.crm.send("contacts.sync", number) for number in range(100)]
    await asyncio.gather(*sends)
    await eventually_async(lambda: consumer.rejected == 1, 60)
    async with operator.at(NAMES.vhost).channel() as channel:
        dead = await take(channel, NAMES.dead_letter_queue("crm", "tasks.assign"))
        await dead.ack()
    assert Header.REASON not in dead.headers
    assert time.monotonic() - began < 9  # the publisher's own deadline is 10
    assert "connection lost" not in caplog.text
    assert "cannot move message" in caplog.text


class Raw(ExactProperties):
    """Properties of the given bytes."""

    def __init__(self, written: bytes) -> None:
        super().__init__(message_id="raw")
        self._bytes = written

    def marshal(self) -> bytes:
        return self._bytes


async def test_a_message_with_deeply_nested_headers_is_dead_lettered(
    client: MessagingClient, operator: Account
) -> None:
    nested = b"V"
    for _ in range(5_000):
        nested = b"A" + struct.pack(">I", len(nested)) + nested
    table = b"\x01h" + nested
    seen = Seen()
    await client.crm.consume("tasks.assign", seen)
    async with operator.at(NAMES.vhost).channel() as channel:
        underlay = await channel.get_underlay_channel()
        deep = Raw(struct.pack(">HI", 1 << 13, len(table)) + table)
        key = NAMES.routing_key("crm", "tasks.assign", "low")
        await underlay.basic_publish(b"{}", exchange=NAMES.exchange, routing_key=key, properties=deep)
        await client.crm.send("tasks.assign", "good")
        await seen.wait(1)
        await eventually_async(lambda: ready(channel, NAMES.dead_letter_queue("crm", "tasks.assign")), every=0.1)
        await (await channel.get_queue(NAMES.dead_letter_queue("crm", "tasks.assign"), ensure=False)).purge()
    assert [message.data for message in seen.messages if message.data != "good"] == []


async def test_a_message_that_is_not_utf8_is_moved_with_the_reason(client: MessagingClient, operator: Account) -> None:
    async def refuse(message: Message) -> None:
        raise Reject("because")

    await client.crm.consume("tasks.assign", Seen(refuse))
    owner = "joão".encode("latin-1")
    await _post(operator, {"owner": owner, "CC": [NAMES.routing_key("crm", "leads.qualify", "low")]})
    async with operator.at(NAMES.vhost).channel() as channel:
        dead = await take(channel, NAMES.dead_letter_queue("crm", "tasks.assign"))
        await dead.ack()
    assert (dead.headers["owner"], dead.headers[Header.REASON]) == (owner, "because")
    assert dead.headers[Header.FIRST_KEY] == "crm.tasks.assign.low"
    assert "CC" not in dead.headers


async def test_an_oversized_message_is_refused_and_its_neighbours_stored(
    client: MessagingClient, address: Address
) -> None:
    transport = AmqpTransport(address, "sdk/too-large", None, 60)
    await transport.open(30)
    key = NAMES.routing_key("crm", "tasks.assign", "low")
    small = [Envelope(NAMES.exchange, key, b"{}", f"small-{number}") for number in range(50)]
    large = Envelope(NAMES.exchange, key, b"x" * (16 * 1024 * 1024 + 1), "large")
    try:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(transport.publish(each, 120) for each in (*small[:25], large, *small[25:])), return_exceptions=True
        )
        assert time.monotonic() - began < 60
    finally:
        await transport.close()
    assert outcomes[:25] + outcomes[26:] == [None] * 50
    assert isinstance(outcomes[25], NotSerializable)
    assert "16,777,217 bytes, the broker takes at most" in str(outcomes[25])
