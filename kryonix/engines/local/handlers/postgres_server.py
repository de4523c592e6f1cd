"""A PostgreSQL server: connections, transactions that survive their neighbours, and its errors in our terms."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString, TypeVar

import psycopg

from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, ServiceUnavailable
from kryonix.engines.local.handlers.base import UNKNOWN
from kryonix.engines.local.handlers.fields import Field, Kind, checked

__all__ = ["Server", "server"]

Result = TypeVar("Result")

ATTEMPTS: Final = 20
LONGEST_PAUSE: Final = 0.2

# What another transaction at the same catalog row, or at the template database, does to one that is all right.
_TRANSIENT: Final = frozenset({"40001", "40P01", "55006", "55P03"})

_CONFIG: Final[Mapping[str, Field]] = {
    "host": Field(required=True),
    "port": Field(kind=Kind.WHOLE, default=5432),
    "database": Field(default="postgres"),
    "username": Field(default="postgres"),
    "password": Field(),
    "sslmode": Field(default="require"),
    "sslrootcert": Field(),
    "superuser": Field(kind=Kind.FLAG, default=True),
    "connectTimeout": Field(kind=Kind.WHOLE, default=30),
    "databaseUsername": Field(),
    "expectedVersion": Field(),
    "maxConnections": Field(kind=Kind.WHOLE),
    "clientcert": Field(
        kind=Kind.BLOCK,
        fields={
            "cert": Field(required=True),
            "key": Field(required=True),
            "sslinline": Field(kind=Kind.FLAG, default=False),
        },
    ),
}
_ENVIRONMENT: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "database": "PGDATABASE",
    "username": "PGUSER",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "superuser": "PGSUPERUSER",
    "connectTimeout": "PGCONNECT_TIMEOUT",
}


@dataclass(frozen=True, slots=True, repr=False)
class Server:
    """One server and the user to work as. Every piece of work has its own short connection."""

    settings: Mapping[str, Any]

    @property
    def superuser(self) -> bool:
        """Whether the user may read what only superusers may (the provider's setting, not what the server says)."""
        return bool(self.settings["superuser"])

    @property
    def username(self) -> str:
        """The user the connections are made as."""
        return str(self.settings["username"])

    def default_database(self) -> str:
        """The database that is used where a resource names none."""
        return str(self.settings["database"])

    def run(
        self, doing: str, work: Callable[[psycopg.Cursor], Result], database: str = "", autocommit: bool = False
    ) -> Result:
        """Do `work` in one transaction, again where a concurrent one got in the way. `doing` names it in an error."""
        pause = 0.01
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._connect(database or self.default_database(), autocommit) as connection:
                    return work(connection.cursor())
            except psycopg.Error as error:
                if attempt == ATTEMPTS or not _is_transient(error):
                    raise ApplyFailed(f"PostgreSQL at {self._where()} would not {doing}: {_reason(error)}") from None
            # Not all of them at once again.
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311, no secret
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("unreachable")

    def has_database(self, name: str) -> bool:
        """Whether there is a database of that name."""
        query: LiteralString = "SELECT 1 FROM pg_database WHERE datname = %s"
        return self.run(f"look for database {name!r}", lambda cursor: bool(cursor.execute(query, [name]).fetchone()))

    def _connect(self, database: str, autocommit: bool) -> psycopg.Connection:
        if UNKNOWN in self.settings.values():
            raise ServiceUnavailable(
                "PostgreSQL can't be reached yet: where it is, or the password, is only known once the resources it "
                "comes from are made. Run `up` first."
            )
        try:
            return psycopg.connect(
                dbname=database,
                autocommit=autocommit,
                application_name="kryonix local engine",
                **_connection_options(self.settings),
            )
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(self._unreachable(database, str(error))) from None

    def _where(self) -> str:
        return f"{self.settings['host']}:{self.settings['port']}"

    def _unreachable(self, database: str, reason: str) -> str:
        if "password authentication failed" in reason or "no password supplied" in reason:
            return (
                f"PostgreSQL at {self._where()} refuses the password of user {self.username!r}. "
                "Correct the provider's `username` and `password`."
            )
        return (
            f"PostgreSQL at {self._where()} can't be reached (database {database!r}): {_cause(reason)}. "
            "Start it, or correct the provider's `host`, `port` and `sslmode`."
        )


def server(config: Mapping[str, Any]) -> Server:
    """A server from the provider's inputs, which a preview may not know yet. Raises `InvalidInputs`."""
    given = {**{name: os.environ.get(env) for name, env in _ENVIRONMENT.items()}}
    given |= {name: value for name, value in config.items() if value is not None}
    if isinstance(given.get("clientcert"), str):
        given["clientcert"] = json.loads(str(given["clientcert"]))
    values, problems = checked(_CONFIG, given)
    if problems:
        raise InvalidInputs("\n".join(f"provider postgresql: {problem}" for problem in problems))
    return Server(values)


def _connection_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    certificate = settings.get("clientcert") or {}
    options = {
        "host": settings["host"],
        "port": settings["port"],
        "user": settings["username"],
        "password": settings.get("password"),
        "sslmode": settings["sslmode"],
        "sslrootcert": settings.get("sslrootcert"),
        "sslcert": certificate.get("cert"),
        "sslkey": certificate.get("key"),
        "connect_timeout": settings["connectTimeout"],
    }
    return {key: value for key, value in options.items() if value is not None}


def _is_transient(error: psycopg.Error) -> bool:
    concurrent = "tuple concurrently" in str(error) or "tuple was concurrently" in str(error)
    return error.sqlstate in _TRANSIENT or concurrent


def _reason(error: psycopg.Error) -> str:
    """The server's message without the statement, which may hold a password's verifier."""
    parts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    return ". ".join(part.rstrip(".") for part in parts if part) or type(error).__name__


def _cause(text: str) -> str:
    """What libpq says went wrong, without the address and the question it adds."""
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("Is the server")
    ]
    return lines[-1].rsplit("failed: ", 1)[-1] if lines else "no reason given"
