"""Messages as other applications' clients write them. Each property set names the file that it was read from.

Spring's were recorded, too: a program with spring-rabbit 3.2.12, and one with 4.1.2, published them to RabbitMQ 4.3.6
with RabbitTemplate and these converters and processors. The two versions' properties were the same.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import kombu.compression
import pytest

from kryonix.messaging import MemoryBroker, MemoryIdempotency
from kryonix.messaging.idempotency import Claim
from kryonix.messaging.message import Envelope
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

KEY = "crm.leads.create.medium"
LEAD = {"lead": "João ✓"}
LEAD_15 = {**LEAD, "total": 1.5}
BODY = json.dumps(LEAD, ensure_ascii=False).encode()


@dataclass
class Foreign:
    """The body and properties of a message of another client, and the data that a handler gets."""

    body: bytes
    data: Any
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any] = field(default_factory=dict)


SPRING_TYPE = {"__TypeId__": "com.acme.Lead"}
SPRING_MAP = {
    "__ContentTypeId__": "java.lang.Object",
    "__KeyTypeId__": "java.lang.Object",
    "__TypeId__": "java.util.ImmutableCollections$Map1",
}
SPRING_GZIP = bytes.fromhex(
    "1f8b08000000000000ffab56ca494d4c51b252f2ca3fbc385fe1d19cc94a3a4a25f92589394a56867aa6b5003e7f995d20000000"
)
SPRING_DEFLATE = bytes.fromhex("7801ab56ca494d4c51b252f2ca3fbc385fe1d19cc94a3a4a25f92589394a56867aa6b500c3290b72")

CLIENTS = {
    # amqp-node/amqplib lib/api_args.js: publish() sets no property by itself
    "amqplib": Foreign(BODY, LEAD, None, None),
    # arobson/rabbot src/amqp/exchange.js: publish()
    "rabbot": Foreign(BODY, LEAD, "application/json", "utf8", {"CorrelationId": ""}),
    "rabbot-text": Foreign("olá".encode(), "olá", "text/plain", "utf8", {"CorrelationId": ""}),
    "rabbot-buffer": Foreign(b"\xff", b"\xff", "application/octet-stream", "utf8", {"CorrelationId": ""}),
    # spring-projects/spring-amqp support/converter/AbstractJacksonMessageConverter.java: createMessage()
    "spring-json": Foreign(BODY, LEAD, "application/json", "UTF-8", SPRING_TYPE),
    "spring-json-map": Foreign(BODY, LEAD, "application/json", "UTF-8", SPRING_MAP),
    "spring-json-latin": Foreign(b'{"a":"\xe1"}', {"a": "á"}, "application/json", "ISO-8859-1", SPRING_MAP),
    "spring-json-charset": Foreign(
        b'\xfe\xff\x00"\x00\xe1\x00"', "á", "application/json;charset=utf-16", None, {"__TypeId__": "java.lang.String"}
    ),
    # the same, support/converter/SimpleMessageConverter.java: createMessage()
    "spring-text": Foreign("olá".encode(), "olá", "text/plain", "UTF-8"),
    "spring-bytes": Foreign(b"\xff", b"\xff", "application/octet-stream", None),
    # the same, support/postprocessor/AbstractCompressingPostProcessor.java, GZipPostProcessor, DeflaterPostProcessor
    "spring-gzip": Foreign(
        SPRING_GZIP, LEAD_15, "application/json", "gzip, UTF-8", {**SPRING_TYPE, "springAutoDecompress": True}
    ),
    "spring-gzip-2.2": Foreign(gzip.compress(BODY), LEAD, "application/json", "gzip:UTF-8", SPRING_TYPE),
    "spring-deflate": Foreign(SPRING_DEFLATE, LEAD_15, "application/json", "deflate, UTF-8", SPRING_TYPE),
    # celery/kombu kombu/messaging.py: Producer._prepare()
    "kombu": Foreign(BODY, LEAD, "application/json", "utf-8"),
    "kombu-bytes": Foreign(b"\xff", b"\xff", "application/data", "binary"),
    "kombu-own-type": Foreign(BODY, LEAD, "application/json", "binary"),
    "kombu-gzip": Foreign(
        kombu.compression.compress(BODY, "gzip")[0],
        LEAD,
        "application/json",
        "utf-8",
        {"compression": kombu.compression.compress(b"", "gzip")[1]},
    ),
}


def _publish(broker: MemoryBroker, message: Foreign, message_id: str = "") -> None:
    broker.publish(
        Envelope(
            broker.names.exchange,
            KEY,
            message.body,
            message_id,
            message.headers,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
        )
    )


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_message_of_another_client_is_handled(client: str) -> None:
    broker, seen, sent = MemoryBroker(modules=["crm"]), Seen(), CLIENTS[client]
    async with await broker.connect() as consumer:
        await consumer.crm.consume("leads.create", seen)
        _publish(broker, sent)
        [message] = await seen.wait(1)
    assert message.data == sent.data
    assert {name: message.headers[name] for name in sent.headers} == sent.headers


@pytest.mark.parametrize(
    ("headers", "content_encoding"),
    [({"compression": "application/x-bz2"}, "utf-8"), ({}, "br"), ({}, "gzip, aes")],
)
async def test_an_unknown_compression_is_a_dead_letter_that_names_it(
    headers: dict[str, Any], content_encoding: str
) -> None:
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect() as client:
        await client.crm.consume("leads.create", seen)
        _publish(broker, Foreign(b"?", None, "application/json", content_encoding, headers))
        await eventually_async(lambda: broker.dead_letters("crm", "leads.create"))
    [dead] = broker.dead_letters("crm", "leads.create")
    assert (headers.get("compression") or content_encoding) in dead.headers["kryonix-reason"]
    assert not seen.messages


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xac\xed\x00\x05sr\x00\x06", "application/x-java-serialized-object"),  # Spring's SimpleMessageConverter
        (b"\x80\x04\x95\x08", "application/x-python-serialize"),  # kombu's pickle
        (b"a: 1", "application/x-yaml"),  # kombu's yaml
        (b"\x81\xa4lead\xa1x", "application/x-msgpack"),
    ],
)
async def test_a_serialized_object_is_a_dead_letter_that_names_its_type(
    body: bytes, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = MemoryBroker(modules=["crm"])
    async with await broker.connect() as client:
        await client.crm.consume("leads.create", Seen())
        _publish(broker, Foreign(body, None, content_type, "binary"))
        await eventually_async(lambda: broker.dead_letters("crm", "leads.create"))
    [dead] = broker.dead_letters("crm", "leads.create")
    assert f"(content-type {content_type!r})" in dead.headers["kryonix-reason"]
    assert ": message without id, now a dead letter in " in caplog.text


async def test_an_id_with_a_line_break_stays_on_its_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker(modules=["crm"])
    async with await broker.connect() as client:
        await client.crm.consume("leads.create", Seen())
        _publish(broker, Foreign(b"?", None, None, None), "a\nb")
        await eventually_async(lambda: broker.dead_letters("crm", "leads.create"))
    assert r": message 'a\nb', now a dead letter in " in caplog.text


async def test_a_compression_header_of_another_meaning_is_ignored() -> None:
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect() as client:
        await client.crm.consume("leads.create", seen)
        for value in ("none", "high", 9, None, b"\xff"):
            _publish(broker, Foreign(BODY, LEAD, "application/json", "utf-8", {"compression": value}))
        await seen.wait(5)


class AsciiOnly(MemoryIdempotency):
    """A store that can hold only ASCII."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    async def claim(self, key: str, lease: float) -> Claim:
        key.encode("ascii")
        self.keys.append(key)
        return await super().claim(key, lease)


async def test_an_id_beyond_ascii_is_escaped_for_the_store() -> None:
    broker, seen, store = MemoryBroker(modules=["crm"]), Seen(), AsciiOnly()
    ids = ["pedido-✓", r"pedido-\u2713", "pedido-\0", "pedido-1", "pedido-😀"]
    async with await broker.connect(idempotency=store) as client:
        consumer = await client.crm.consume("leads.create", seen)
        for message_id in ids * 2:
            _publish(broker, CLIENTS["amqplib"], message_id)
        await eventually_async(lambda: consumer.duplicates == len(ids))
    assert sorted(message.message_id for message in seen.messages) == sorted(ids)  # no two are mistaken for each other
    assert len(set(store.keys)) == len(ids)


class Refusing(MemoryIdempotency):
    """A store that can never store a key."""

    async def claim(self, key: str, lease: float) -> Claim:
        raise UnicodeError("cannot hold this")


async def test_a_message_with_an_unstorable_id_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect(idempotency=Refusing()) as client:
        consumer = await client.crm.consume("leads.create", seen)
        _publish(broker, CLIENTS["amqplib"], "pedido-1")
        await eventually_async(lambda: consumer.handled == 1)
    assert "may be handled twice: cannot hold this" in caplog.text
