from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from pamqp import frame
from pamqp.commands import Connection as Method
from pamqp.heartbeat import Heartbeat

from kryonix.messaging import AccessRefused, MessagingClient, NotConnected

pytestmark = pytest.mark.anyio


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as RabbitMQ does to what is not AMQP."""
    await reader.read(8)
    writer.write(b"AMQP\x00\x00\x09\x01")
    await writer.drain()
    writer.close()


async def test_tls_to_a_plain_port_is_told_as_that() -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        uri = f"amqps://kryonix_acme:pw@127.0.0.1:{port}/%2Fcliente_acme"
        with pytest.raises(AccessRefused) as caught:
            await MessagingClient.connect(uri, application="shop", timeout=5)
    assert f"127.0.0.1:{port}/cliente_acme: this port has no TLS" in str(caught.value)
    assert "5671" in str(caught.value)
    assert "certificate" not in str(caught.value)


async def test_a_connection_without_tls_to_a_tls_port_is_told_as_that() -> None:
    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(bytes.fromhex("1503030002020a"))  # RabbitMQ's: fatal, unexpected message
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(alert, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        uri = f"amqp://kryonix_acme:pw@127.0.0.1:{port}/%2Fcliente_acme"
        with pytest.raises(AccessRefused, match=r"this port has TLS, and amqp:// is without it\. Write amqps://"):
            await MessagingClient.connect(uri, application="shop", timeout=5)


@dataclass
class Broker:
    """Answers a login with frames, the last one after heartbeats."""

    answer: frame.FrameTypes
    logins: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.logins += 1
        start = Method.Start(server_properties={"capabilities": {}}, mechanisms="PLAIN", locales="en_US")
        await reader.readexactly(8)
        for answer in (start, Method.Tune(1, 4096, 1), Heartbeat(), Heartbeat(), self.answer):
            writer.write(frame.marshal(answer, 0))
            await writer.drain()
            await asyncio.sleep(0.05)
        await reader.read()
        writer.close()

    async def connect(self, timeout: float) -> None:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            uri = f"amqp://kryonix_acme:pw@127.0.0.1:{server.sockets[0].getsockname()[1]}/%2Fcliente_acme"
            await (await MessagingClient.connect(uri, application="shop", timeout=timeout)).close()


async def test_heartbeats_of_a_broker_that_lets_a_client_wait_are_no_refusal() -> None:
    await Broker(Method.OpenOk()).connect(timeout=30)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connection limit (0) is reached", r"does not let kryonix_acme in: the tenant is suspended: access to vhost"),
        ("connection limit (50) is reached", r"does not let kryonix_acme in: access .*: connection limit \(50\) is"),
    ],
)
async def test_a_refusal_is_told_at_once_in_the_brokers_words(text: str, told: str) -> None:
    text = f"NOT_ALLOWED - access to vhost '/cliente_acme' refused for user 'kryonix_acme': {text}"
    broker = Broker(Method.Close(530, text, 10, 40))
    with pytest.raises(AccessRefused, match=f"{told}.*kryonix tenant resume"):
        await broker.connect(timeout=60)
    assert broker.logins == 1


async def test_a_broker_that_cannot_count_the_connections_is_asked_again() -> None:
    text = "NOT_ALLOWED - access to vhost refused for user: connection limit cannot be queried, timeout"
    broker = Broker(Method.Close(530, text, 10, 40))
    with pytest.raises(NotConnected, match="cannot be queried") as caught:
        await broker.connect(timeout=2)
    assert not isinstance(caught.value, AccessRefused)
    assert broker.logins > 1
