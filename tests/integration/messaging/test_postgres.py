"""Idempotency and audit in PostgreSQL, shared by all consumers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from kryonix.messaging import AuditRecord, MemoryBroker, PostgresAudit, PostgresIdempotency
from kryonix.messaging.message import Envelope
from tests.integration.engines.handlers.conftest import Postgres, daemon, postgres
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

__all__ = ["daemon", "postgres"]

pytestmark = pytest.mark.anyio


def dsn(server: Postgres) -> str:
    settings = server.settings()
    return f"postgresql://{settings['username']}:{settings['password']}@127.0.0.1:{server.port}/postgres"


async def test_exactly_one_of_many_consumers_gets_a_message(postgres: Postgres, unique: str) -> None:
    stores = [PostgresIdempotency(dsn(postgres), unique) for _ in range(5)]
    await stores[0].claim("warm", 1)
    claims = await asyncio.gather(*(store.claim("key", 60) for store in stores))
    assert sorted(claims) == ["busy"] * 4 + ["mine"]
    await stores[claims.index("mine")].done("key")
    assert {await store.claim("key", 60) for store in stores} == {"done"}
    for store in stores:
        await store.close()


async def test_a_claim_ends_when_it_is_released_or_its_lease_is_over(postgres: Postgres, unique: str) -> None:
    store = PostgresIdempotency(dsn(postgres), unique)
    assert await store.claim("a", 60) == "mine"
    await store.release("a")
    assert await store.claim("a", 0.05) == "mine"
    await asyncio.sleep(0.1)
    assert await store.claim("a", 60) == "mine"
    await store.done("a")
    await store.release("a")
    assert await store.claim("a", 60) == "done"
    await store.close()


async def test_the_next_process_knows_handled_messages(postgres: Postgres, unique: str) -> None:
    broker = MemoryBroker(modules=["crm"])
    for expected in (1, 0):
        store, seen = PostgresIdempotency(dsn(postgres), unique), Seen()
        async with await broker.connect(idempotency=store) as client:
            consumer = await client.crm.consume("leads.create", seen)
            await client.crm.send("leads.create", {}, message_id="once")
            await eventually_async(lambda: consumer.handled + consumer.duplicates == 1)  # noqa: B023
            assert len(seen.messages) == expected


async def test_a_connection_cut_by_the_server_is_replaced(postgres: Postgres, unique: str) -> None:
    store = PostgresIdempotency(dsn(postgres), unique)
    await store.claim("a", 60)
    with postgres.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert await store.claim("a", 60) == "busy"
    await store.close()


async def test_every_send_is_a_row(postgres: Postgres, unique: str) -> None:
    audit = PostgresAudit(dsn(postgres), unique)
    async with await MemoryBroker("acme", modules=["crm"]).connect(application="shop", audit=audit) as client:
        for number in range(50):
            await client.crm.send("leads.create", number, message_id=str(number))
        await eventually_async(lambda: count(postgres, unique) == 50)
    with postgres.connect() as connection:
        query = psycopg.sql.SQL("SELECT message_id, tenant, application, outcome, routing_key FROM {} ORDER BY at")
        rows = connection.execute(query.format(psycopg.sql.Identifier(unique))).fetchall()
    assert len(rows) == 50
    assert rows[0] == ("0", "acme", "shop", "confirmed", "crm.leads.create.medium")


async def test_an_id_invalid_in_postgresql_is_handled_once(postgres: Postgres, unique: str) -> None:
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect(idempotency=PostgresIdempotency(dsn(postgres), unique)) as client:
        consumer = await client.crm.consume("leads.create", seen)
        for _ in range(2):
            broker.publish(Envelope(broker.names.exchange, "crm.leads.create.medium", b"{}", "nul\0"))
        await eventually_async(lambda: (consumer.handled, consumer.duplicates) == (1, 1))


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "UTF8"])
def encoded_dsn(request: pytest.FixtureRequest, postgres: Postgres, unique: str) -> str:
    """A database in one of the encodings that people's servers have."""
    name = f"{unique}_{request.param.lower()}"
    with postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' TEMPLATE template0 LOCALE 'C'".encode())
    return dsn(postgres).replace("/postgres", f"/{name}")


async def test_any_id_is_handled_once_whatever_the_encoding(encoded_dsn: str) -> None:
    broker, seen, ids = MemoryBroker(modules=["crm"]), Seen(), ["pedido-✓", "joão", "plain"]
    async with await broker.connect(idempotency=PostgresIdempotency(encoded_dsn)) as client:
        consumer = await client.crm.consume("leads.create", seen)
        for message_id in ids * 2:
            broker.publish(Envelope(broker.names.exchange, "crm.leads.create.medium", b"{}", message_id))
        await eventually_async(lambda: (consumer.handled, consumer.duplicates) == (3, 3))
    assert sorted(message.message_id for message in seen.messages) == sorted(ids)


async def test_any_text_is_audited_whatever_the_encoding(encoded_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    audit = PostgresAudit(encoded_dsn)
    async with await MemoryBroker(modules=["crm"]).connect(application="loja ✓", audit=audit) as client:
        await client.crm.send("leads.create", 1, message_id="joão")
    assert client.audit_dropped == 0
    with psycopg.connect(encoded_dsn, client_encoding="utf8") as connection:
        row = connection.execute("SELECT application, message_id FROM kryonix_audit").fetchone()
    readable = ("loja ✓", "joão")
    assert row == (readable if not encoded_dsn.endswith("latin1") else (r"loja \u2713", r"jo\xe3o"))


async def test_a_key_that_does_not_fit_the_table_is_refused(postgres: Postgres, unique: str) -> None:
    with postgres.connect() as connection:
        connection.execute(f"CREATE TABLE {unique} (key varchar(3) PRIMARY KEY, at date, until timestamptz)".encode())
    store = PostgresIdempotency(dsn(postgres), unique)
    for key in ("nul\0", "too long"):
        with pytest.raises(UnicodeError):
            await store.claim(key, 60)
    assert await store.claim("fit", 60) == "mine"
    await store.close()


async def test_a_cut_connection_neither_loses_nor_doubles_a_record(postgres: Postgres, unique: str) -> None:
    async with await MemoryBroker(modules=["crm"]).connect(audit=PostgresAudit(dsn(postgres), unique)) as client:
        await client.crm.send("leads.create", 1)
        await eventually_async(lambda: count(postgres, unique) == 1)
        with postgres.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        for number in range(5):
            await client.crm.send("leads.create", number)
        await eventually_async(lambda: count(postgres, unique) == 6)
    assert (count(postgres, unique), client.audit_dropped) == (6, 0)


async def test_a_rewritten_batch_doubles_no_record(postgres: Postgres, unique: str) -> None:
    audit = PostgresAudit(dsn(postgres), unique)
    sent = AuditRecord(
        datetime.now(UTC), "acme", "shop", "1", "crm", "leads.create", "cliente_acme", "crm.x", 5, 2, "confirmed", 0.5
    )
    failed_before = replace(sent, at=sent.at - timedelta(microseconds=1), outcome="TimedOut")
    for _ in range(2):
        await audit.write([failed_before, sent])
    await audit.close()
    assert count(postgres, unique) == 2


def count(server: Postgres, table: str) -> int:
    """Rows of a table that need not be there yet."""
    with server.connect() as connection:
        try:
            row = connection.execute(
                psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
    return int(row[0]) if row else 0


async def test_an_absent_database_stops_no_send(postgres: Postgres) -> None:
    audit = PostgresAudit("postgresql://nobody:x@127.0.0.1:1/none")
    async with await MemoryBroker(modules=["crm"]).connect(audit=audit) as client:
        await client.crm.send("leads.create", 1)
        await eventually_async(lambda: client.audit_dropped == 1)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A table of the test's own."""
    return "t_" + str(abs(hash(request.node.name)))
