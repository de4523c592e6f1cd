"""Notes of messages in PostgreSQL, and feedback of them to a learned router."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kryonix.errors import InvalidChoice
from kryonix.messaging import LearnedRouter, MemoryBroker, Outcomes, PostgresOutcomes
from kryonix.messaging.outcomes import Consumed, Published
from tests.integration.engines.handlers.conftest import Postgres, daemon, postgres, unique
from tests.integration.messaging.test_postgres import dsn
from tests.support import notes as noted
from tests.support.broker_under_test import World
from tests.support.learned import model_file, model_of
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

__all__ = ["daemon", "postgres", "unique"]

pytestmark = pytest.mark.anyio

EVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def published(message_id: str = "m", **changed: Any) -> Published:
    return noted.published(message_id, **{"at": time.time() - 1_000, **changed})


def consumed(message_id: str = "m", **changed: Any) -> Consumed:
    return noted.consumed(message_id, **{"at": time.time(), **changed})


@pytest.mark.parametrize("consumer_first", [True, False])
async def test_notes_of_both_sides_make_one_row_in_any_order(
    postgres: Postgres, unique: str, consumer_first: bool
) -> None:
    table = PostgresOutcomes(dsn(postgres), unique)
    sides: list[Any] = [[published()], [consumed(outcome="retried")], [consumed(attempts=2, waited_ms=None)]]
    for notes in sides[::-1] if consumer_first else sides:
        await table.write(notes)
        await table.write(notes)
    (outcome,) = await table.joined(*EVER)
    assert (outcome.waited_ms, outcome.attempts, outcome.outcome, outcome.priority) == (100.0, 2, "done", 5)
    await table.close()


async def test_many_processes_write_the_same_messages_at_once(postgres: Postgres, unique: str) -> None:
    tables = [PostgresOutcomes(dsn(postgres), unique) for _ in range(4)]
    notes = [published(f"m-{number}") for number in range(200)]
    ends = [consumed(f"m-{number}") for number in range(200)]
    await asyncio.gather(*(each.write((notes + ends)[:: 1 if n % 2 else -1]) for n, each in enumerate(tables)))
    assert len(await tables[0].joined(*EVER)) == 200
    for each in tables:
        await each.close()


async def test_a_message_never_consumed_has_expired(postgres: Postgres, unique: str) -> None:
    table = PostgresOutcomes(dsn(postgres), unique)
    await table.write([published("lost", expires_ms=1_000.0, version="v1"), published("waiting")])
    assert await table.joined(*EVER) == []
    await table.write([published("other"), consumed("other")])
    assert [(each.message_id, each.outcome) for each in await table.joined(*EVER)] == [
        ("lost", "expired"),
        ("other", "done"),
    ]
    await table.close()


async def test_any_text_can_be_noted(postgres: Postgres, unique: str) -> None:
    table = PostgresOutcomes(dsn(postgres), unique)
    await table.write([published("nul\0"), published("half\ud800"), consumed("nul\0"), consumed("half\ud800")])
    assert len(await table.joined(*EVER)) == 2
    await table.close()


async def test_old_rows_are_deleted(postgres: Postgres, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.messaging.outcomes.table._CLEANING_S", 0.0)
    table = PostgresOutcomes(dsn(postgres), unique, keep=timedelta(milliseconds=1))

    async def rows() -> int:
        await table.write([published("new")])
        async with await psycopg.AsyncConnection.connect(dsn(postgres)) as connection:
            cursor = await connection.execute(f"SELECT count(*) FROM {unique} WHERE message_id = 'old'".encode())
            return int((await cursor.fetchone() or (1,))[0])

    await table.write([published("old")])
    await eventually_async(lambda: _is_zero(rows))
    await table.close()


async def _is_zero(rows: Any) -> bool:
    return bool(await rows() == 0)


async def test_rows_of_several_tenants_are_not_read_by_accident(postgres: Postgres, unique: str) -> None:
    table = PostgresOutcomes(dsn(postgres), unique)
    await table.write([published(), consumed(), published(tenant="other"), consumed(tenant="other")])
    with pytest.raises(InvalidChoice, match="several tenants"):
        await table.joined(*EVER)
    assert len(await table.joined(*EVER, tenant="other")) == 1
    await table.close()


async def test_other_processes_consumers_can_end_a_models_use(
    postgres: Postgres, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryonix.messaging.learned._POLL_S", 0.1)
    monkeypatch.setattr("kryonix.messaging.outcomes.table._SETTLED_S", 0.1)
    file = tmp_path / "model.json"
    file.write_bytes(model_file(model_of(9)))
    router, broker = LearnedRouter(file, mode="on"), MemoryBroker("acme", modules=["crm"])
    sink, other = PostgresOutcomes(dsn(postgres), unique), PostgresOutcomes(dsn(postgres), unique)
    async with await broker.connect(router=router, outcomes=Outcomes(sink, 1.0)) as client:
        for number in range(350):
            await client.crm.send("leads.create", {}, message_id=f"m-{number}")
        await eventually_async(lambda: _has(other, 0))
        await other.write([consumed(f"m-{number}", handled_ms=5_000.0) for number in range(350)])
        await eventually_async(lambda: router.status().problem)
        result = await client.crm.send("leads.create", {})
    assert "predicted handling times" in router.status().problem["crm.leads.create"]
    assert result.priority == 5
    await other.close()


async def _has(table: PostgresOutcomes, count: int) -> bool:
    return len(await table.joined(*EVER)) >= count


async def test_a_message_on_a_broker_makes_one_outcome(world: World, postgres: Postgres, unique: str) -> None:
    sink, seen = PostgresOutcomes(dsn(postgres), unique), Seen()
    client = await world.connect(outcomes=Outcomes(sink, 1.0))
    async with client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {"n": 1}, message_id=unique)
        await seen.wait(1)
    reader = PostgresOutcomes(dsn(postgres), unique)
    (outcome,) = await reader.joined(*EVER)
    await reader.close()
    assert (outcome.message_id, outcome.outcome, outcome.attempts) == (unique, "done", 1)
    assert 0 <= (outcome.waited_ms or 0) < 60_000


VIEW = """
    CREATE SCHEMA IF NOT EXISTS tenants;
    CREATE TABLE IF NOT EXISTS tenants.routing_current
        (cliente_id text, mode text, canary numeric, version text, content bytea, changed_at timestamptz)"""


async def publish(postgres: Postgres, tenant: str, mode: str, version: str | None, content: bytes | None) -> None:
    async with await psycopg.AsyncConnection.connect(dsn(postgres), autocommit=True) as connection:
        await connection.execute(VIEW.encode())
        await connection.execute("DELETE FROM tenants.routing_current WHERE cliente_id = %s", [tenant])
        row = (tenant, mode, 100, version, content)
        await connection.execute("INSERT INTO tenants.routing_current VALUES (%s, %s, %s, %s, %s, now())", row)


async def test_the_registry_gives_the_model_and_its_mode(postgres: Postgres, unique: str) -> None:
    router, broker = LearnedRouter(dsn(postgres)), MemoryBroker(unique, modules=["crm"])
    priorities = []

    async def send() -> None:
        await router.refresh()
        priorities.append((await client.crm.send("leads.create", {})).priority)

    async with await broker.connect(router=router) as client:
        assert router.status().unusable
        await publish(postgres, unique, "shadow", "one", model_file(model_of(9)))
        await send()
        await publish(postgres, unique, "canary", "one", model_file(model_of(9)))
        await send()
        await publish(postgres, unique, "on", "two", model_file(model_of(3)))
        await send()
        await publish(postgres, unique, "off", None, None)
        await send()
    assert priorities == [5, 9, 3, 5]
    assert (router.status().mode, router.status().version) == ("off", None)


async def test_an_unreachable_registry_leaves_all_to_the_rules(caplog: pytest.LogCaptureFixture) -> None:
    router = LearnedRouter("postgresql://someone:secret@127.0.0.1:1/registry")
    async with await MemoryBroker(modules=["crm"]).connect(router=router) as client:
        result = await client.crm.send("leads.create", {})
        await eventually_async(lambda: router.status().unusable)
    assert result.priority == 5
    assert "secret" not in f"{caplog.text} {router.status()}"
