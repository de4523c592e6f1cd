"""Record what a real broker delivers of messages that the SDK, other clients and raw frames have published.

    python vectors/record.py amqp://USER:PASSWORD@HOST:PORT/%2Fcliente_acme AMQPLIB > recorded.json

AMQPLIB is a copy of tests/fixtures/amqplib after `npm ci`. The vhost has to be empty, and the broker to stamp messages:
`message_interceptors.incoming.set_header_timestamp.overwrite = false`. A message is taken as the broker sends it, byte
by byte, by the little client below: no library reads it first. What an SDK makes of it is in envelopes.json.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import kombu
import pika

from kryonix.messaging import MessagingClient

EXCHANGE, QUEUE = "cliente_acme", "cliente_acme.crm.leads.create"
KEY = "crm.leads.create.medium"
DATA = {"lead": "João ✓", "total": 1.5}
BODY = json.dumps(DATA, ensure_ascii=False).encode()
_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": f"{EXCHANGE}.crm.dlx",
    "x-dead-letter-routing-key": "crm.leads.create.dlq",
}


def short(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


def long(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


class Raw:
    """A connection with one channel, and the few methods that are needed."""

    def __init__(self, uri: str) -> None:
        at = urlsplit(uri)
        self._socket = socket.create_connection((at.hostname or "localhost", at.port or 5672), 10)
        self._in = self._socket.makefile("rb")
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._frame()
        login = f"\0{unquote(at.username or '')}\0{unquote(at.password or '')}".encode()
        self._method(10, 11, long(b"") + short("PLAIN") + long(login) + short("en_US"), channel=0)
        self._frame()
        self._method(10, 31, struct.pack(">HIH", 1, 131_072, 0), channel=0)
        self._method(10, 40, short(unquote(at.path[1:])) + short("") + b"\0", channel=0)
        self._frame()
        self._method(20, 10, short(""))
        self._frame()

    def _frame(self) -> bytes:
        _, _, size = struct.unpack(">BHI", self._in.read(7))
        payload = self._in.read(size)
        self._in.read(1)
        return payload

    def _send(self, kind: int, channel: int, payload: bytes) -> None:
        self._socket.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce")

    def _method(self, group: int, method: int, arguments: bytes, channel: int = 1) -> None:
        self._send(1, channel, struct.pack(">HH", group, method) + arguments)

    def publish(self, exchange: str, key: str, flags: int, properties: bytes, body: bytes) -> None:
        self._method(60, 40, b"\0\0" + short(exchange) + short(key) + b"\0")
        self._send(2, 1, struct.pack(">HHQH", 60, 0, len(body), flags) + properties)
        if body:
            self._send(3, 1, body)

    def take(self, queue: str, *, requeue: bool = False) -> dict[str, object]:
        """Get the next message as the broker sends it, waiting for it; acknowledge it, or put it back as failed."""
        while True:
            self._method(60, 70, b"\0\0" + short(queue) + b"\0")
            got = self._frame()
            if got[:4] == struct.pack(">HH", 60, 71):
                break
            time.sleep(0.1)
        tag, redelivered = got[4:12], bool(got[12])
        exchange_end = 14 + got[13]
        exchange = got[14:exchange_end].decode()
        key = got[exchange_end + 1 : exchange_end + 1 + got[exchange_end]].decode()
        header = self._frame()
        size, body = struct.unpack(">Q", header[4:12])[0], b""
        while len(body) < size:
            body += self._frame()
        self._method(60, 90, tag + b"\1") if requeue else self._method(60, 80, tag + b"\0")
        return {
            "exchange": exchange,
            "routing_key": key,
            "redelivered": redelivered,
            "frame": {"$bytes": base64.b64encode(header).decode()},
            "body": {"$bytes": base64.b64encode(body).decode()},
        }


def declare(uri: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(uri)) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        channel.exchange_declare(f"{EXCHANGE}.mobile_priority", "topic", durable=True)
        channel.exchange_declare(f"{EXCHANGE}.business_critical", "direct", durable=True)
        channel.exchange_declare(f"{EXCHANGE}.automation", "fanout", durable=True)
        channel.exchange_declare(f"{EXCHANGE}.crm.dlx", "direct", durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments=_ARGUMENTS)
        channel.queue_declare(f"{QUEUE}.dlq", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(QUEUE, EXCHANGE, "crm.leads.create.*")
        channel.queue_bind(QUEUE, f"{EXCHANGE}.mobile_priority", "mobile.crm.leads.create")
        channel.queue_bind(QUEUE, f"{EXCHANGE}.business_critical", "critical.crm.leads.create")
        channel.queue_bind(QUEUE, f"{EXCHANGE}.automation", "")
        channel.queue_bind(f"{QUEUE}.dlq", f"{EXCHANGE}.crm.dlx", "crm.leads.create.dlq")


async def send(uri: str, what: str) -> None:
    async with await MessagingClient.connect(uri, application="shop") as client:
        match what:
            case "usual":
                await client.crm.send("leads.create", DATA, message_id="sdk-1", headers={"owner": "joão"})
            case "mobile":
                await client.crm.send("leads.create", DATA | {"notes": "a" * 2000}, message_id="sdk-2", device="mobile")
            case "critical":
                await client.crm.send("leads.create", DATA, message_id="sdk-3", priority=9, expires=20)
            case "bytes":
                await client.crm.send("leads.create", b"\x00\xff", message_id="sdk-4", priority=0)
            case "broadcast":
                await client.broadcast({"event": "prices changed"}, message_id="sdk-5")


def by_pika(uri: str, properties: pika.BasicProperties | None, body: bytes = BODY) -> None:
    with pika.BlockingConnection(pika.URLParameters(uri)) as connection:
        connection.channel().basic_publish(EXCHANGE, KEY, body, properties)


def by_kombu(uri: str, data: object, **options: object) -> None:
    with kombu.Connection(uri) as connection, connection.channel() as channel:
        kombu.Producer(channel).publish(data, exchange=EXCHANGE, routing_key=KEY, **options)


def by_amqplib(uri: str) -> None:
    script = Path(__file__).parent.parent / "tests" / "fixtures" / "amqplib" / "amqplib.mjs"
    command = ["node", script.name, "publish", uri, EXCHANGE, KEY, BODY.decode()]
    subprocess.run(command, cwd=sys.argv[2], check=True)  # noqa: S603 - no part of it comes from outside


def fields() -> bytes:
    """Return a table with a field of each type that RabbitMQ knows."""
    table = b"".join(
        short(name) + value
        for name, value in {
            "t": b"t\x01",
            "b": b"b\xfb",
            "B": b"B\xfb",
            "s": b"s" + struct.pack(">h", -300),
            "u": b"u" + struct.pack(">H", 60_000),
            "I": b"I" + struct.pack(">i", -70_000),
            "i": b"i" + struct.pack(">I", 4_000_000_000),
            "l": b"l" + struct.pack(">q", -(2**60)),
            "f": b"f" + struct.pack(">f", 0.5),
            "d": b"d" + struct.pack(">d", 0.1),
            "S": b"S" + long("João".encode()),
            "x": b"x" + long(b"\x00\xff"),
            "T": b"T" + struct.pack(">Q", 1_767_355_200),
            "V": b"V",
            "A": b"A" + long(b"V" + b"t\x00" + b"S" + long(b"x")),
            "F": b"F" + long(short("n") + b"l" + struct.pack(">q", 7)),
        }.items()
    )
    return long(table)


def main() -> None:
    uri = sys.argv[1]
    declare(uri)
    raw = Raw(uri)
    taken: dict[str, dict[str, object]] = {}
    for what in ("usual", "mobile", "critical", "bytes", "broadcast"):
        asyncio.run(send(uri, what))
        taken[f"sdk: {what}"] = raw.take(QUEUE)
    by_pika(uri, None)
    taken["pika: no properties"] = raw.take(QUEUE)
    headers = {"CC": ["crm.leads.create.low"], "n": 2**40, "x": None, "deep": {"a": [1, True]}}
    properties = pika.BasicProperties(
        content_type="application/json",
        headers=headers,
        delivery_mode=2,
        priority=7,
        correlation_id="c-1",
        reply_to="answers",
        expiration="60000",
        message_id="pika-1",
        timestamp=1_767_355_200,
        type="Lead",
        app_id="legacy",
    )
    by_pika(uri, properties)
    taken["pika: all properties"] = raw.take(QUEUE)
    by_kombu(uri, DATA)
    taken["kombu: an object"] = raw.take(QUEUE)
    by_kombu(uri, DATA, compression="gzip", headers={"owner": "joão".encode("latin-1")})
    taken["kombu: an object by gzip"] = raw.take(QUEUE)
    by_kombu(uri, "olá")
    taken["kombu: text"] = raw.take(QUEUE)
    by_kombu(uri, b"\x00\xff")
    taken["kombu: bytes"] = raw.take(QUEUE)
    by_amqplib(uri)
    for number in (1, 2, 3):
        taken[f"amqplib: publication {number}"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, 0, b"", BODY)
    taken["raw: no properties"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, 1 << 13, fields(), BODY)
    taken["raw: every type of field"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, 1 << 15, short("application/octet-stream"), b"")
    taken["raw: no body"] = raw.take(QUEUE)
    raw.publish(
        EXCHANGE, KEY, (1 << 13) | (1 << 7), long(short("bad") + b"S" + long(b"\xff\xfe")) + short("latin-1"), BODY
    )
    taken["raw: text that is not UTF-8"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, (1 << 11) | (1 << 7), b"\xff" + short("priority-255"), BODY)
    taken["raw: a priority of 255"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, 1 << 7, short("failed twice"), BODY)
    for _ in range(2):
        raw.take(QUEUE, requeue=True)
    taken["broker: delivered a third time"] = raw.take(QUEUE)
    raw.publish(EXCHANGE, KEY, (1 << 8) | (1 << 7), short("1") + short("late"), BODY)
    taken["broker: expired, now a dead letter"] = raw.take(f"{QUEUE}.dlq")
    json.dump(taken, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
