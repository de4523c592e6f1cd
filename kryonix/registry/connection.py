"""PostgreSQL connections that stop waiting for a frozen server, statements by name, and tenants' locks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Any, Final, LiteralString, Self, cast

import psycopg
from psycopg.errors import _WaitTimeout
from psycopg.rows import dict_row

from kryonix.registry.errors import address_parts, translated

Connection = psycopg.Connection[dict[str, Any]]

SCHEMA: Final = "tenants"
SIGNUP_SCHEMA: Final = "signup"
"""The schema of the signup service's operations, jobs and keys."""
SIGNUP_READS: Final = ("desired_states", "rabbitmq_configurations")
"""Tables of the tenants schema that the signup service's role may read."""
EXPORTER_READS: Final = {
    SCHEMA: ("desired_states", "rabbitmq_configurations"),
    SIGNUP_SCHEMA: ("operations", "forgotten_operations"),
}
"""Tables that the exporter's role may read, by schema. It sees no password hashes."""
BACKUP_WRITES: Final = ("backups", "backup_schedules")
"""Tables of the tenants schema with the records of backups: their role writes them, and the exporter reads them."""
BACKUP_READS: Final = {
    SCHEMA: (
        "alembic_version",
        "desired_states",
        "final_exports",
        "rabbitmq_configurations",
        "rabbitmq_credentials",
        "rollout_tenants",
        "rollouts",
    ),
    SIGNUP_SCHEMA: (
        "api_keys",
        "audit",
        "forgotten_operations",
        "operations",
        "outbox",
        "procrastinate_events",
        "procrastinate_jobs",
        "procrastinate_periodic_defers",
        "procrastinate_workers",
    ),
}
"""Every other table but those of routing, by schema: the backups' role may read them."""
ROUTING_TABLES: Final = ("routing_models", "routing_modes", "routing_sharing")
"""Tables of the tenants schema about routing that learns. The backups' role may read them.

Not among BACKUP_READS: a grant with other objects would be replaced, and the old one revoked last.
"""
ROUTING_READS: Final = ("routing_modes",)
"""The table of them that the exporter's role may read: no model, and not who shares."""

_QUERY: Final = re.compile(r"^-- (\w+) --$\n(.*?)(?=^-- \w+ --$|\Z)", re.MULTILINE | re.DOTALL)


def load_queries(package: str) -> dict[str, LiteralString]:
    """Return the statements of a package's folder `sql` by name. A line `-- name --` precedes each."""
    # Python may have left a `__pycache__` there: an older version had a module in the folder.
    found = [file for file in (files(package) / "sql").iterdir() if file.name.endswith(".sql")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in found)
    # The files belong to the package and are as literal as strings in the code.
    return {name: cast("LiteralString", body.strip()) for name, body in _QUERY.findall(text)}


QUERIES: Final = load_queries("kryonix.registry")

KEEPALIVES: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""libpq settings that detect a vanished machine within 25 s. A Unix socket ignores them."""

CONNECT_TIMEOUT_S: Final = 5

_DEFAULTS: Final = {
    "channel_binding": "prefer",
    "gssencmode": "prefer",
    "hostaddr": "",
    "sslmode": "prefer",
    "sslrootcert": "",
    "target_session_attrs": "any",
}
PINNED: Final = (
    "SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET standard_conforming_strings = on; "
    "SET default_transaction_isolation = 'read committed'"
)
"""A session's settings. As connection options, PGDATESTYLE would override them, and poolers refuse such options."""


def given_settings(dsn: str) -> dict[str, Any]:
    """Return the settings of a connection as the DSN gives them, or libpq's defaults.

    Without them libpq would take PGSSLMODE, PGHOSTADDR and others from the environment, meant for another server.
    """
    given = address_parts(dsn)
    return {"client_encoding": "utf8"} | {name: given.get(name, default) for name, default in _DEFAULTS.items()}


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time. The connection is closed."""


class BoundedConnection(psycopg.Connection[dict[str, Any]]):
    """A connection that closes, with NoAnswer, when one answer takes longer than `answer_s`.

    Neither a statement_timeout, which a stopped server process does not keep, nor TCP, whose packets the kernel of a
    frozen server still acknowledges, would end the wait.
    """

    answer_s: float = 30

    @classmethod
    def connect(cls, conninfo: str = "", *, autocommit: bool = False, **given: Any) -> Self:
        """Connect, with the settings that the statements and the driver need instead of the environment's or role's."""
        settings = {"connect_timeout": CONNECT_TIMEOUT_S, "row_factory": dict_row, **KEEPALIVES}
        connection = super().connect(conninfo, autocommit=True, **(settings | given_settings(conninfo) | given))
        try:
            connection.execute(PINNED)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval=interval, timeout=timeout)
        try:
            return super().wait(gen, interval=interval, timeout=self.answer_s)
        except _WaitTimeout as error:
            self.pgconn.finish()  # a late answer would be taken for the next statement's
            raise NoAnswer(f"no answer within {self.answer_s:g} s") from error

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Use another time limit within the block."""
        before, self.answer_s = self.answer_s, seconds
        try:
            yield
        finally:
            self.answer_s = before


# By default the server keeps the session of a vanished machine, and its locks, for two hours. With these settings it
# drops both after 25 s of silence. A Unix socket ignores them.
_KEEPALIVES: Final = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


def open_session(dsn: str) -> BoundedConnection:
    """Open a connection in autocommit mode, for locks that last as long as the session. Raises psycopg's errors."""
    given = address_parts(dsn).get("options") or ""  # an argument replaces the DSN's
    return BoundedConnection.connect(dsn, autocommit=True, options=f"{given} {_KEEPALIVES}".strip())


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """Open a connection with a transaction, committed at the end of the block.

    Raises RegistryUnavailable (also if a statement gets no answer within 30 s) or RegistryRefused, for the block's
    statements too.
    """
    with translated(dsn), BoundedConnection.connect(dsn) as connection:
        yield connection


@contextmanager
def tenant_lock(dsn: str, cliente_id: str) -> Iterator[Connection | None]:
    """Lock the tenant during the block, without waiting. Yields the session that holds it; None if another does."""
    with translated(dsn):
        # In autocommit mode: a transaction open for minutes would keep the database from vacuuming old rows.
        connection = open_session(dsn)
    try:
        with translated(dsn):
            row = connection.execute(QUERIES["hold_tenant"], {"id": cliente_id}).fetchone()
        yield connection if row is not None and row["held"] else None
    finally:
        with suppress(psycopg.Error), connection.within(CONNECT_TIMEOUT_S):
            connection.execute("SELECT pg_advisory_unlock_all()")  # the server notices a closed connection later
        with suppress(psycopg.Error):
            connection.close()
