"""Connections read and write the same, whatever the environment, the role and the database set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from psycopg import pq

from components.registry_check import ping
from kryonix.messaging.postgres import PostgresTable
from kryonix.registry import schema
from kryonix.registry.connection import connect, given_settings, open_session
from kryonix.registry.migrations.versions import NEWEST
from kryonix.signup.database import Database, connection_settings
from kryonix.signup.worker import _pin
from tests.integration.signup.conftest import OWNER, SIGNUP, Registry

ROLE = {
    "client_encoding": "'SQL_ASCII'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "iso_8601",
    "default_transaction_isolation": "serializable",
}
PROBE = "SELECT now() - at AS age, at, 'é✓'::text AS text FROM (VALUES (timestamptz '2026-02-01 12:00+00')) AS one(at)"
LEVEL = "SHOW transaction_isolation"


@pytest.fixture(params=["environment", "role"])
def odd(request: pytest.FixtureRequest, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    if request.param == "environment":
        monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
        monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
        yield registry
        return
    for role in (SIGNUP, OWNER):
        for name, value in ROLE.items():
            registry.query(f"ALTER ROLE {role} SET {name} = {value}")
    yield registry
    for role in (SIGNUP, OWNER):
        registry.query(f"ALTER ROLE {role} RESET ALL")


def check(row: dict[str, Any] | None, level: dict[str, Any] | None) -> None:
    assert row is not None
    assert (row["text"], row["at"].month, row["age"].days > 0) == ("é✓", 2, True)
    assert level == {"transaction_isolation": "read committed"}


def test_the_registry_and_the_service_read_the_same(odd: Registry) -> None:
    with connect(odd.dsn()) as connection:
        check(connection.execute(PROBE).fetchone(), connection.execute(LEVEL).fetchone())
    session = open_session(odd.dsn())
    check(session.execute(PROBE).fetchone(), session.execute(LEVEL).fetchone())
    session.close()
    with Database(odd.dsn(), size=1) as database, database.transaction() as connection:
        check(connection.execute(PROBE).fetchone(), connection.execute(LEVEL).fetchone())
    assert schema.current(odd.dsn(OWNER)) == NEWEST


ELSEWHERE = {
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGHOSTADDR": "127.0.0.9",
    "PGSSLMODE": "verify-full",
    "PGTARGETSESSIONATTRS": "standby",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_settings_for_another_server_are_not_used(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, ELSEWHERE[name])
    with connect(registry.dsn()):
        pass
    assert schema.current(registry.dsn(OWNER)) == NEWEST
    assert ping(registry.dsn()) == pq.Ping.OK
    settings = {**connection_settings(registry.dsn(), 30), **given_settings(registry.dsn())}
    psycopg.connect(registry.dsn(), **settings).close()


def test_a_dsns_own_settings_are_used() -> None:
    assert given_settings("postgresql://u@h/d?sslmode=verify-full&hostaddr=::1") == {
        **given_settings("postgresql://u@h/d"),
        "sslmode": "verify-full",
        "hostaddr": "::1",
    }


@pytest.mark.anyio
async def test_the_queue_of_jobs_and_the_sdk_read_the_same(odd: Registry) -> None:
    settings = {**connection_settings(odd.dsn(), 30), **given_settings(odd.dsn())}
    async with App(connector=PsycopgConnector(conninfo=odd.dsn(), kwargs=settings, configure=_pin)).open_async() as app:
        check(await app.connector.execute_query_one_async(PROBE), await app.connector.execute_query_one_async(LEVEL))
    store = PostgresTable(odd.dsn(), "unused", "")
    store._created = True
    assert await store._execute("SELECT %(text)s::text", {"text": "é✓"}) == ("é✓",)
    await store.close()
