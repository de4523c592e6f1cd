"""A table in PostgreSQL, over one connection. Only this module needs psycopg."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg


class Postgres:
    """Run statements one after the other. The connection is opened at first use, and again after it breaks."""

    def __init__(self, dsn: str) -> None:
        try:
            import psycopg  # noqa: F401 - fail here, not at the first message
        except ImportError as error:
            raise ConfigurationError(
                "psycopg is not installed", remedy="Install it with `pip install 'kryonix-messaging[postgres]'`"
            ) from error
        check_type("dsn", dsn, str)
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def fetch(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises psycopg's errors."""
        async with self._turn:
            connection = await self._connected()
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        import psycopg

        if self._connection is None or self._connection.closed:
            # The encoding is the SDK's, whatever PGCLIENTENCODING or the role says.
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, connect_timeout=5, client_encoding="utf8"
            )
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class PostgresTable(Postgres):
    """A table that the first connection creates: `table` is its name, with or without schema."""

    def __init__(self, dsn: str, table: str, columns: str, indexes: Sequence[str] = ()) -> None:
        check_type("table", table, str)
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?", table):
            problem = f"table: {table!r:.60} is not a valid table name"
            raise ConfigurationError(problem, remedy="Use lower-case letters, digits and _")
        super().__init__(dsn)
        self._table, self._columns, self._indexes = table, columns, indexes
        self._created = False

    async def _execute(
        self, statement: str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> tuple[Any, ...] | None:
        """Run a statement on `{table}` and return its first row, or run it for many parameters in one transaction.

        Reconnect once if the server has closed the connection. Raises UnicodeError for a value the table cannot hold.
        """
        import psycopg

        text = statement.format(table=self._table).encode()
        async with self._turn:
            connection = await self._connected()
            try:
                return await _run(connection, text, parameters)
            except psycopg.DataError as error:
                raise UnicodeError(str(error)) from error
            except Exception:
                if not connection.closed:
                    raise
            return await _run(await self._connected(), text, parameters)

    async def _fetch(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self.fetch(statement.format(table=self._table), parameters)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        connection = await super()._connected()
        if not self._created:
            # One process after the other: IF NOT EXISTS fails if two make the same table or index at the same moment.
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self._table,))
                await connection.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({self._columns})".encode())
                for number, columns in enumerate(self._indexes):
                    name = f"{self._table.rpartition('.')[2][:55]}_{number}"
                    await connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {self._table} ({columns})".encode())
            self._created = True
        return connection


async def _run(
    connection: psycopg.AsyncConnection[Any],
    statement: bytes,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> tuple[Any, ...] | None:
    if isinstance(parameters, Mapping):
        cursor = await connection.execute(statement, _storable(connection, parameters))
        return await cursor.fetchone() if cursor.description else None
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(statement, [_storable(connection, row) for row in parameters])
    return None


def _storable(connection: psycopg.AsyncConnection[Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Escape text to ASCII in a database that is not UTF-8."""
    if connection.info.parameter_status("server_encoding") in ("UTF8", "SQL_ASCII"):
        return row
    return {
        name: value.encode("ascii", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
