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
