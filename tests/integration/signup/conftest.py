"""A registry container, and the service on it in this process. Without Docker the tests fail."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import docker
import httpx
import psycopg
import pytest
import uvicorn
from docker.models.containers import Container
from psycopg.rows import dict_row

from kryonix.registry.connection import SCHEMA, SIGNUP_READS, SIGNUP_SCHEMA
from kryonix.registry.schema import upgrade
from kryonix.signup.database import Database
from kryonix.signup.keys import Scope, create_key
from kryonix.signup.prometheus import PrometheusAddress
from kryonix.signup.service import build_service
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells
from tests.support.project import free_port
from tests.support.prometheus import example_platform
from tests.support.waiting import eventually

IMAGE = os.environ.get("KRYONIX_TEST_POSTGRES_IMAGE", "postgres:17")
START_SECONDS = 300.0
_IDLE_S = 600
"""Idle connections outlive a test, so that neither side closes one that the other is about to reuse."""
PASSWORD = secrets.token_hex(16)
OWNER, WRITER, SIGNUP = "kryonix_migrator", "kryonix_registry", "kryonix_signup"
ROWS = "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True)
class Registry:
    """The database `kryonix_main` with its roles, as a platform has it."""

    container: Container
    port: int

    def dsn(self, role: str = SIGNUP, database: str = "kryonix_main") -> str:
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def query(self, sql: str, *values: Any, role: str = "admin") -> list[dict[str, Any]]:
        options = f"-c search_path={SIGNUP_SCHEMA}"  # procrastinate's triggers do not say the schema
        with psycopg.connect(self.dsn(role), row_factory=dict_row, autocommit=True, options=options) as connection:
            found = connection.execute(sql, values or None)
            return found.fetchall() if found.description else []

    def key(self, scope: Scope) -> str:
        with Database(self.dsn(), size=1) as database, database.transaction() as connection:
            return create_key(connection, "a test's", scope)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For the block the server's processes stand still: its sockets stay open, and nothing is answered."""
        self.container.pause()
        try:
            yield
        finally:
            self.container.unpause()

    def clear(self) -> None:
        self.query(
            "TRUNCATE signup.operations, signup.forgotten_operations, signup.api_keys, signup.audit, signup.outbox, "
            "signup.procrastinate_jobs, signup.procrastinate_workers, tenants.desired_states, "
            "tenants.rabbitmq_configurations CASCADE"
        )


def _make(registry: Registry) -> None:
    """Declare the registry as `components/registry.py` does, with the current tables."""
    with psycopg.connect(registry.dsn("admin", "postgres"), autocommit=True) as server:
        for role in (OWNER, WRITER, SIGNUP):
            rights = "CREATEROLE" if role == OWNER else ""
            server.execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD '{PASSWORD}'")
        server.execute(f"CREATE DATABASE kryonix_main OWNER {OWNER} TEMPLATE template0")
    with psycopg.connect(registry.dsn("admin"), autocommit=True) as database:
        for schema, role in ((SCHEMA, WRITER), (SIGNUP_SCHEMA, SIGNUP)):
            database.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {OWNER}")
            database.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {schema} GRANT"
            database.execute(f"{defaults} {ROWS} ON TABLES TO {role}")
            database.execute(f"{defaults} USAGE ON SEQUENCES TO {role}")
        database.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {SIGNUP}")
        upgrade(registry.dsn(OWNER), "0005")  # as a platform of before has it
        upgrade(registry.dsn(OWNER))
        for table in SIGNUP_READS:
            database.execute(f"GRANT SELECT ON {SCHEMA}.{table} TO {SIGNUP}")


@pytest.fixture(scope="package")
def server() -> Iterator[Registry]:
    daemon = docker.from_env()
    port = free_port()
    container = daemon.containers.run(
        IMAGE,
        ["-c", "fsync=off"],
        detach=True,
        environment={"POSTGRES_USER": "admin", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "postgres"},
        ports={"5432/tcp": ("127.0.0.1", port)},
        labels={"kryonix.test": "1"},
    )
    registry = Registry(container, port)
    try:
        connect = partial(psycopg.connect, registry.dsn("admin", "postgres"))
        eventually("PostgreSQL accepts connections", connect, ignoring=(psycopg.OperationalError,)).close()
        _make(registry)
        yield registry
    finally:
        container.remove(force=True, v=True)
        daemon.close()


@pytest.fixture
def registry(server: Registry) -> Registry:
    """The registry, with nothing in it."""
    server.clear()
    return server


@contextmanager
def serving(registry: Registry, *, per_second: float = 1000, burst: int = 1000, prometheus: str = "") -> Iterator[str]:
    """The service, on a free port; its address."""
    cells = Cells(cells={"main": Cell(platform="organization/kryonix/none")})
    app = build_service(
        registry.dsn(),
        default_catalog(),
        cells,
        per_second=per_second,
        burst=burst,
        prometheus=PrometheusAddress(prometheus),
    )
    web = uvicorn.Server(
        uvicorn.Config(
            app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=2, timeout_keep_alive=_IDLE_S
        )
    )
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    eventually("the service has started", lambda: web.started or not thread.is_alive())
    assert web.started
    host, port = web.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        web.should_exit = True
        thread.join(60)


@pytest.fixture(scope="package")
def prometheus() -> Iterator[str]:
    with example_platform() as url:
        yield url


@pytest.fixture
def base(registry: Registry) -> Iterator[str]:
    with serving(registry) as address:
        yield address


def caller(base: str, key: str | None = None, timeout: float = 60) -> httpx.Client:
    """Each has connections of its own, which are closed with it.

    No idle one is closed before: it may just have been given to another thread.
    """
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=100, keepalive_expiry=_IDLE_S)
    return httpx.Client(base_url=base, headers=headers, timeout=timeout, limits=limits)
