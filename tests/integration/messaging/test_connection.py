"""Connecting: names, deadlines, certificates and reconnects. On the shared platform: no restarts."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aio_pika
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kryonix.messaging import AccessRefused, Message, MessagingClient, NotConnected, SendTimedOut, StatsUnavailable
from kryonix.messaging.amqp.connection import connect
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import Address, parse_uri
from kryonix.messaging.message import Header
from kryonix.topology.naming import Names, stats_user
from tests.support.amqp import Account, administrator
from tests.support.project import Project, free_port
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def address(tenants: dict[str, tuple[str, str]]) -> Address:
    return parse_uri(*tenants["sdk"])


@pytest.fixture
def admin(platform: Project) -> Account:
    return administrator(platform.outputs())


async def _connections(admin: Account, name: str, count: int = 1) -> list[dict[str, object]]:
    """Wait until the management API lists this many of a client's connections, and return them."""
    named: list[dict[str, object]] = []

    async def listed() -> bool:
        found = await asyncio.to_thread(admin.get, "connections")
        named[:] = [connection for connection in found if connection.get("user_provided_name") == name]
        return len(named) == count

    await eventually_async(listed, every=0.25)
    return named


async def test_a_connection_has_a_name_heartbeat_and_prefetch(address: Address, admin: Account) -> None:
    async with await MessagingClient.connect(address.uri(), application="named") as client:
        await client.portal.consume("treinamentos.sync", Seen())
        (connection,) = await _connections(admin, "sdk/named")
        assert connection["timeout"] == 60

        async def prefetched() -> bool:
            consumers = await asyncio.to_thread(admin.get, "consumers", address.vhost)
            return 100 in {consumer["prefetch_count"] for consumer in consumers}

        await eventually_async(prefetched, every=0.25)


async def test_an_unnamed_application_uses_the_programs_name(
    address: Address, admin: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/srv/shop/nightly.py"])
    async with await MessagingClient.connect(address.uri()) as client:
        await client.portal.send("certificados.gerar", {})
        await _connections(admin, "sdk/nightly")
    async with await aio_pika.connect(address.uri()) as connection, connection.channel() as channel:
        name = Names(address.tenant_id).queue("portal", "certificados.gerar")
        message = await (await channel.get_queue(name, ensure=False)).get(timeout=30)
        await message.ack()
    assert (message.app_id, message.delivery_mode) == ("nightly", aio_pika.DeliveryMode.PERSISTENT)


async def test_sending_and_consuming_use_one_connection_each(address: Address, admin: Account) -> None:
    async with await MessagingClient.connect(address.uri(), application="two") as client:
        seen = Seen()
        await client.portal.consume("treinamentos.sync", seen)
        await client.portal.send("treinamentos.sync", {})
        await seen.wait(1)
        await _connections(admin, "sdk/two", count=2)
    await _connections(admin, "sdk/two", count=0)


async def test_a_wrong_password_is_refused_at_once_and_never_shown(address: Address) -> None:
    began = time.monotonic()
    with pytest.raises(AccessRefused, match="Check user, password and vhost") as failure:
        await MessagingClient.connect(replace(address, password="not-the-password").uri(), application="x", timeout=30)
    assert time.monotonic() - began < 25  # it does not wait for its deadline
    assert "not-the-password" not in str(failure.value)


async def test_another_tenants_vhost_is_refused(address: Address) -> None:
    with pytest.raises(AccessRefused):
        await MessagingClient.connect(replace(address, tenant_id="acme").uri(), application="x")


async def test_a_missing_broker_is_awaited_until_the_deadline(address: Address) -> None:
    began = time.monotonic()
    with pytest.raises(NotConnected, match=r"127\.0\.0\.1"):
        await MessagingClient.connect(replace(address, port=free_port()).uri(), application="x", timeout=0.5)
    assert 0.4 < time.monotonic() - began < 20


async def test_a_silent_server_is_awaited_until_the_deadline(address: Address) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    with pytest.raises(NotConnected):
        await MessagingClient.connect(replace(address, port=port).uri(), application="x", timeout=0.5)
    assert time.monotonic() - began < 20
    server.close()


async def test_a_closed_connection_is_replaced_without_loss(
    address: Address, admin: Account, caplog: pytest.LogCaptureFixture
) -> None:
    seen, enough = Seen(), asyncio.Event()
    sent: list[str] = []
    async with await MessagingClient.connect(address.uri(), application="cut") as client:
        await client.portal.consume("interacoes.track", seen)

        async def send() -> None:
            while not enough.is_set():
                sent.append((await client.portal.send("interacoes.track", len(sent), timeout=60)).message_id)
                await asyncio.sleep(0.01)

        sending = asyncio.create_task(send())
        for connection in await _connections(admin, "sdk/cut", count=2):
            await asyncio.to_thread(admin.call, "DELETE", "connections", str(connection["name"]))
        await eventually_async(lambda: caplog.text.count("connected again") == 2, 60)
        await eventually_async(lambda: "subscribed again" in caplog.text, 60)
        enough.set()
        await sending
        await eventually_async(lambda: set(sent) <= {message.message_id for message in seen.messages}, 60)
    assert "connection lost" in caplog.text


Hold = Callable[[bool], None]


@asynccontextmanager
async def proxy(
    address: Address, context: ssl.SSLContext | None = None, change: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[tuple[Address, Hold]]:
    """A way to the broker that can be held: bytes then go nowhere, and nobody is told. And that can change them."""
    flowing = asyncio.Event()
    flowing.set()
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await flowing.wait()
                writer.write(change(data))
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(address.host, address.port)
        for way in ((reader, behind_writer), (behind_reader, writer)):
            task = asyncio.create_task(pipe(*way))
            pipes.add(task)
            task.add_done_callback(pipes.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    scheme = "amqps" if context else "amqp"
    try:
        yield replace(address, port=port, scheme=scheme), lambda hold: flowing.clear() if hold else flowing.set()
    finally:
        server.close()
        for task in list(pipes):
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


async def test_a_send_into_a_silent_connection_ends_unconfirmed_at_its_deadline(
    address: Address,
) -> None:
    async with proxy(address) as (through, hold):
        client = await MessagingClient.connect(through.uri(), application="silent")
        await client.portal.send("certificados.gerar", "before")
        hold(True)
        began = time.monotonic()
        with pytest.raises(SendTimedOut, match="same message_id") as failure:
            await client.portal.send("certificados.gerar", "during", message_id="again", timeout=0.5)
        assert 0.4 < time.monotonic() - began < 20
        assert failure.value.message_id == "again"
        hold(False)
        await client.portal.send("certificados.gerar", "during", message_id="again")
        seen = Seen()
        await client.portal.consume("certificados.gerar", seen)
        await seen.wait(3)
        await client.close()
    assert {message.data for message in seen.messages} == {"before", "during"}


async def test_a_subscription_into_a_silent_connection_ends_at_its_deadline(address: Address) -> None:
    """Though the heartbeat ends the connection meanwhile, for which aiormq cancels whoever waits."""
    async with proxy(address) as (through, hold):
        client = await MessagingClient.connect(through.uri(), application="mute", heartbeat=1)
        hold(True)
        with pytest.raises(NotConnected):
            await asyncio.wait_for(client.portal.consume("conteudo.processar", Seen(), timeout=8), 60)
        hold(False)
        await eventually_async(lambda: client.connected, 30)
        seen = Seen()
        await client.portal.consume("conteudo.processar", seen)
        await client.portal.send("conteudo.processar", 1)
        await seen.wait(1)
        await client.close()


async def test_a_silent_connection_is_replaced_after_missed_heartbeats(address: Address) -> None:
    seen = Seen()
    async with proxy(address) as (through, hold):
        client = await MessagingClient.connect(through.uri(), application="stuck", heartbeat=1)
        await client.portal.consume("conteudo.processar", seen)
        await client.portal.send("conteudo.processar", 1)
        await seen.wait(1)
        hold(True)
        await eventually_async(lambda: not client.connected, 30)
        hold(False)
        await client.portal.send("conteudo.processar", 2, timeout=30)
        await eventually_async(lambda: {message.data for message in seen.messages} == {1, 2}, 30)
        await client.close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS context with a self-signed certificate, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


async def test_amqps_accepts_only_trusted_certificates(address: Address, tmp_path: Path) -> None:
    context, file = certificate(tmp_path)
    async with proxy(address, context) as (through, _):
        with pytest.raises(AccessRefused, match="certificate"):
            await MessagingClient.connect(through.uri(), application="tls")
        trusted = ssl.create_default_context(cafile=file)
        async with await MessagingClient.connect(through.uri(), application="tls", ssl_context=trusted) as client:
            seen = Seen()
            await client.portal.consume("treinamentos.sync", seen)
            await client.portal.send("treinamentos.sync", "encrypted")
            await seen.wait(1)


async def test_unreadable_figures_are_an_error_not_zero(address: Address) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", None):
        connected = await MessagingClient.connect(address.uri(), application="x", management_url=url)
        async with connected as client:
            with pytest.raises(StatsUnavailable):
                await client.queue_stats()


async def test_refused_figures_are_reported_without_the_password(address: Address) -> None:
    wrong = replace(address, password="not-the-password")
    with pytest.raises(StatsUnavailable, match=r"refuses kryonix_sdk[.]stats") as failure:
        await AmqpTransport(wrong, "x", None, 60).queues(30)
    assert "not-the-password" not in str(failure.value)


async def test_figures_are_read_from_an_older_platform(address: Address, operator: Account) -> None:
    stats, user = stats_user(address.username), address.username
    assert operator.call("GET", "users", user).json()["tags"] == []
    before = await AmqpTransport(address, "x", None, 60).queues(30)

    def change(name: str, tags: str) -> None:
        body = {"password": address.password, "tags": tags}
        operator.call("PUT", "users", name, json=body).raise_for_status()

    change(stats, "")
    change(user, "management")
    try:
        older = await AmqpTransport(address, "x", None, 60).queues(30)
    finally:
        change(stats, "management")
        change(user, "")
    assert {queue["name"] for queue in older} == {queue["name"] for queue in before} != set()


async def test_slow_figures_are_awaited_until_the_deadline(address: Address) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(StatsUnavailable):
        await AmqpTransport(replace(address, management_url=url), "x", None, 60).queues(0.5)
    assert time.monotonic() - began < 20  # the whole of it would take 50 s
    server.close()


async def test_figures_of_foreign_queues_cannot_be_requested(address: Address) -> None:
    client = await MessagingClient.connect(address.uri(), application="curious")
    with pytest.raises(AccessRefused):
        await client._transport.has_queue("cliente_acme.crm.leads.create", 60)
    await client.close()


async def test_a_message_with_unreadable_properties_is_dead_lettered_alone(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that is not UTF-8, as a foreign application may send it: aiormq's own reader would end the connection."""
    names, seen = Names(address.tenant_id), Seen()
    key = names.routing_key("portal", "conteudo.processar", "medium")
    await _publish_spoiled(address, names.exchange, key)
    async with await MessagingClient.connect(address.uri(), application="spoiled") as client:
        for number in range(3):
            await client.portal.send("conteudo.processar", number, message_id=f"good-{number}")
        await client.portal.consume("conteudo.processar", seen)
        await eventually_async(lambda: "with unreadable properties is a dead letter" in caplog.text, 60)
        await eventually_async(lambda: {message.data for message in seen.messages} == {0, 1, 2}, 60)
    connection = await connect(address.uri(), "spoiled", None)
    channel = await connection.open_channel()
    while (
        dead := await channel.basic_get(names.dead_letter_queue("portal", "conteudo.processar"))
    ).delivery_tag is None:
        await asyncio.sleep(0.1)
    assert Header.UNREADABLE in (dead.header.properties.headers or {})
    assert dead.body == b"{}"
    await channel.basic_ack(dead.delivery_tag)
    await connection.close()


async def _publish_spoiled(address: Address, exchange: str, key: str) -> None:
    """Publish a message whose id no Python client would write: the bytes of its frame are changed on their way."""
    async with proxy(address, change=lambda data: data.replace(b"x" * 40, b"\xff" * 40)) as (through, _):
        connection = await aio_pika.connect(through.uri())
        async with connection, connection.channel() as channel:
            target = await channel.get_exchange(exchange, ensure=False)
            await target.publish(aio_pika.Message(b"{}", message_id="x" * 40), key)


async def test_the_client_continues_after_a_cancelled_send(address: Address) -> None:
    async with proxy(address) as (through, hold):
        client = await MessagingClient.connect(through.uri(), application="cancelled")
        await client.portal.send("certificados.gerar", "first")
        hold(True)
        sending = asyncio.create_task(client.portal.send("certificados.gerar", "second"))
        await asyncio.sleep(0.1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        hold(False)
        await client.portal.send("certificados.gerar", "third")
        arrived: list[Message] = []

        async def keep(message: Message) -> None:
            arrived.append(message)

        await client.portal.consume("certificados.gerar", keep)
        await eventually_async(lambda: {"first", "third"} <= {message.data for message in arrived})
        await client.close()
