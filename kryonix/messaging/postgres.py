"""One connection to PostgreSQL, opened when it is needed and again after it broke. psycopg is needed only here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kryonix.messaging.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Postgres", "checked_name"]


def checked_name(table: str) -> str:
    """A table's name, with or without schema, that can stand in a statement. Raises ConfigurationError."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?", table):
        raise ConfigurationError(f"{table[:80]!r} is no table name", remedy="Use lower-case letters, digits and _")
    return table


class Postgres:
    """Statements one after the other; the table they need is made on the first connection."""

    def __init__(self, dsn: str, create_table: str) -> None:
        try:
            import psycopg  # noqa: F401 - told here, where the user can do something, not at the first message
        except ImportError as error:
            raise ConfigurationError(
                "psycopg is not installed", remedy="Install it with `pip install 'kryonix-messaging[postgres]'`"
            ) from error
        self._dsn, self._create_table = dsn, create_table
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._created = False
        self._turn = asyncio.Lock()

    async def execute(self, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Run a statement and return its first row. A connection that the server has closed is replaced once."""
        async with self._turn:
            for last in (False, True):
                connection = await self._connected()
                try:
                    cursor = await connection.execute(statement.encode(), parameters)
                    return await cursor.fetchone() if cursor.description else None
                except Exception:
                    if last or not connection.closed:
                        raise
        return None

    async def execute_many(self, statement: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        async with self._turn:
            connection = await self._connected()
            async with connection.cursor() as cursor:
                await cursor.executemany(statement.encode(), parameters)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        import psycopg

        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
        if not self._created:
            await self._connection.execute(self._create_table.encode())
            self._created = True
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
