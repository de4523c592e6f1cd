"""The service's connections to the registry's database, in its own schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from kryonix.registry.errors import address_parts, translated
from kryonix.registry.rows import Connection
from kryonix.registry.schema import SIGNUP_SCHEMA

__all__ = ["CONNECTION", "Database"]

CONNECTION: Final[dict[str, Any]] = {"connect_timeout": 5, "options": f"-c search_path={SIGNUP_SCHEMA}"}
"""How a connection is made: procrastinate's statements do not say the schema."""

_WAIT_S: Final = 5


class Database:
    """A pool of connections. Made closed; use it as a context manager. Raises RegistryAddressInvalid."""

    def __init__(self, dsn: str, *, size: int = 10) -> None:
        address_parts(dsn)  # the pool would log libpq's text, again and again, which quotes one that can't be read
        self._dsn = dsn
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_WAIT_S,
            open=False,
            kwargs={**CONNECTION, "row_factory": dict_row},
            check=ConnectionPool.check_connection,
            connection_class=_connection_class(),
        )

    def __enter__(self) -> Database:
        self._pool.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction, committed at the end. Raises RegistryUnavailable or RegistryRefused."""
        with translated(self._dsn), self._pool.connection() as connection:
            yield connection


def _connection_class() -> type[Connection]:
    import psycopg

    return psycopg.Connection[DictRow]
