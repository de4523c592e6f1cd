"""A frozen database: it answers nothing and closes nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryUnavailable
from kryonix.signup.database import Database
from tests.integration.signup.conftest import Registry, caller
from tests.support.waiting import eventually

IN_TIME_S = 30
"""The service's own bounds are 5 to 8 s; the rest is for a machine that is slow."""


def test_every_request_reports_a_frozen_database_in_time(base: str, registry: Registry) -> None:
    key = registry.key("admin")
    with caller(base, key, timeout=IN_TIME_S) as http:
        assert http.get("/v1/tenants").status_code == 200
        with registry.frozen():
            for path in ("/v1/tenants", "/v1/operations/00000000-0000-4000-8000-000000000000", "/readyz"):
                answer = http.get(path)
                assert answer.status_code == 503, path
                assert "127.0.0.1" not in answer.text
            assert http.post("/v1/tenants", json={"id": "acme", "modules": ["crm"], "plan": "pro"}).status_code == 503
            figures = http.get("/metrics")
            assert figures.status_code == 200
            assert "kryonix_signup_requests_total" in figures.text
            assert http.get("/healthz").status_code == 200
        eventually("it works again", lambda: http.get("/v1/tenants").status_code == 200)
        assert not registry.query("SELECT 1 FROM signup.operations"), "what was refused was not taken on"


def test_a_frozen_database_does_not_exhaust_the_threads(base: str, registry: Registry) -> None:
    """Three times as many requests as the service has threads, then again: none waits for those before it."""
    key = registry.key("admin")
    with caller(base, key, timeout=2 * IN_TIME_S) as http, ThreadPoolExecutor(120) as pool:
        http.get("/v1/tenants")
        with registry.frozen():
            first = list(pool.map(lambda _: http.get("/v1/tenants").status_code, range(120)))
            assert set(first) == {503}
            began = time.monotonic()
            again = list(pool.map(lambda _: http.get("/v1/tenants").status_code, range(400)))
            assert set(again) == {503}
            # 400 requests on 40 threads, 5 s each, would be 50 s.
            assert time.monotonic() - began < IN_TIME_S
            assert http.get("/healthz").status_code == 200
        eventually("it works again", lambda: http.get("/v1/tenants").status_code == 200)


def test_a_running_statement_ends_at_its_timeout(registry: Registry) -> None:
    with Database(registry.dsn(), size=1) as database:
        with database.transaction() as connection:
            connection.execute("SELECT 1")
        with pytest.raises(RegistryUnavailable, match="no answer within"):
            _ask_twice(database, registry)
        eventually("there is a new connection", lambda: _answers(database))


def test_a_slow_statement_is_cancelled_and_the_database_stays_available(registry: Registry) -> None:
    with Database(registry.dsn(), size=2, answer_s=0.5) as database:
        for _ in range(4):
            with (
                pytest.raises(RegistryUnavailable, match="statement timeout"),
                database.transaction() as connection,
            ):
                connection.execute("SELECT pg_sleep(60)")
        assert _answers(database)


def test_connections_of_the_command_and_the_worker_time_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryonix.registry.connection.BoundedConnection.answer_s", 1)
    with (
        pytest.raises(RegistryUnavailable, match="no answer within 1 s"),
        connect(registry.dsn()) as connection,
        registry.frozen(),
    ):
        connection.execute("SELECT 1")
    with registry.frozen(), pytest.raises(RegistryUnavailable), connect(registry.dsn()):
        pass
    with psycopg.connect(registry.dsn()) as unbounded:
        unbounded.execute("SELECT 1")


def _ask_twice(database: Database, registry: Registry) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT 1")
        with registry.frozen():
            connection.execute("SELECT 2")


def _answers(database: Database) -> bool:
    try:
        with database.transaction() as connection:
            return connection.execute("SELECT 1").fetchone() is not None
    except RegistryUnavailable:
        return False
