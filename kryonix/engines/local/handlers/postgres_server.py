"""A PostgreSQL server: connections, transactions repeated after a conflict, and its errors as the engine's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Composed

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers.base import NOT_YET, UNKNOWN
from kryonix.engines.local.handlers.fields import REQUIRED, Field, Kind, TableHandler, accepted
from kryonix.topology.addresses import host_port

Cursor = psycopg.Cursor[DictRow]
Result = TypeVar("Result")

ATTEMPTS: Final = 20
LONGEST_PAUSE: Final = 0.2

# Conflicts with another transaction on the same catalog row, or on the template database.
_TRANSIENT: Final = frozenset({"40001", "40P01", "55006", "55P03"})

_CONFIG: Final[Mapping[str, Field]] = {
    **dict.fromkeys(("host", "username", "password"), REQUIRED),
    "port": Field(kind=Kind.WHOLE, default=5432),
    "sslmode": Field(default="require"),
    "sslrootcert": Field(),
    "connectTimeout": Field(kind=Kind.WHOLE, default=30),  # the SDK always gives it
}


@dataclass(frozen=True, slots=True, repr=False)
class Server:
    """One server and the user to work as. Every piece of work has its own short connection."""

    settings: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Server:
        """Read the provider's inputs, which may be unknown in a preview. Raise `InvalidInputs`."""
        return cls(accepted("provider postgresql", _CONFIG, config))

    def run(self, doing: str, work: Callable[[Cursor], Result], database: str = "", autocommit: bool = False) -> Result:
        """Run `work` in one transaction, again after a conflict. `doing` is such as "drop role 'r'"."""
        pause = 0.01
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._connect(database or "postgres", autocommit) as connection:
                    return work(connection.cursor())
            except psycopg.Error as error:
                concurrent = "tuple concurrently" in str(error) or "tuple was concurrently" in str(error)
                if attempt == ATTEMPTS or not (concurrent or error.sqlstate in _TRANSIENT):
                    # Without the statement: that may hold a password's verifier.
                    diagnosis = error.diag.message_primary, error.diag.message_detail, error.diag.message_hint
                    reason = ". ".join(part.rstrip(".") for part in diagnosis if part) or type(error).__name__
                    raise ApplyFailed(f"PostgreSQL at {self._address} refused to {doing}: {reason}") from None
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311, no secret; apart from each other
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("unreachable")

    def execute(self, doing: str, *statements: SQL | Composed, database: str = "", autocommit: bool = False) -> None:
        """Run statements in one transaction; with `autocommit` each on its own."""

        def work(cursor: Cursor) -> None:
            for statement in statements:
                cursor.execute(statement)

        self.run(doing, work, database, autocommit)

    def row(self, doing: str, query: LiteralString, values: Mapping[str, Any], database: str = "") -> DictRow | None:
        """Return the first row of a query, None without one."""
        return self.run(doing, lambda cursor: cursor.execute(query, values).fetchone(), database)

    def has_database(self, name: str) -> bool:
        """Return True if the database exists."""
        query: LiteralString = "SELECT 1 FROM pg_database WHERE datname = %(name)s"
        return bool(self.row(f"look for database {name!r}", query, {"name": name}))

    def _connect(self, database: str, autocommit: bool) -> psycopg.Connection[DictRow]:
        if UNKNOWN in self.settings.values():
            raise ServiceUnavailable(NOT_YET.format("PostgreSQL"))
        settings = self.settings
        try:
            return psycopg.connect(
                host=settings["host"],
                port=settings["port"],
                user=settings["username"],
                password=settings["password"],
                sslmode=settings["sslmode"],
                # Else PGSSLROOTCERT, or a file in the user's folder.
                sslrootcert=settings.get("sslrootcert") or "",
                connect_timeout=settings["connectTimeout"],
                dbname=database,
                row_factory=dict_row,
                autocommit=autocommit,
                application_name="kryonix local engine",
                # Else PGCLIENTENCODING, or the role's; PGHOSTADDR; PGTARGETSESSIONATTRS.
                client_encoding="utf8",
                hostaddr="",
                target_session_attrs="any",
            )
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(self._unreachable(database, str(error))) from None

    @property
    def _address(self) -> str:
        return host_port(self.settings["host"], self.settings["port"])

    def _unreachable(self, database: str, reason: str) -> str:
        if "password authentication failed" in reason:
            return (
                f"PostgreSQL at {self._address} refuses the password of user {self.settings['username']!r}. "
                "Correct the provider's `username` and `password`."
            )
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("Is the server")] or ["no reason given"]
        return (
            f"PostgreSQL at {self._address} can't be reached (database {database!r}): "
            f"{lines[-1].rsplit('failed: ', 1)[-1]}. "
            "Start it, or correct the provider's `host`, `port` and `sslmode`."
        )


class ServerHandler(TableHandler):
    """A handler of objects on a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
