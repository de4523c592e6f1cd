from __future__ import annotations

import asyncio

import pytest

from kryonix.messaging import AccessRefused, MessagingClient

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
