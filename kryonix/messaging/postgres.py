"""One connection to PostgreSQL, opened when it is needed and again after it broke. psycopg is needed only here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kryonix.messaging.checks import shown
from kryonix.messaging.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Postgres", "checked_name"]


Result = TypeVar("Result")


def checked_name(table: str) -> str:
    """A table's name, with or without schema, that can stand in a statement. Raises ConfigurationError."""
    if not isinstance(table, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?", table):
        raise ConfigurationError(f"{shown(table)} is no table name", remedy="Use lower-case letters, digits and _")
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
        if not isinstance(dsn, str):
            problem = f"the DSN is {type(dsn).__name__}, not text"
            raise ConfigurationError(problem, remedy="Write it as postgresql://USER@HOST/DATABASE")
        self._dsn, self._create_table = dsn, create_table
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._created = False
        self._turn = asyncio.Lock()

    async def execute(self, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Run a statement and return its first row. A connection that the server has closed is replaced once."""

        async def one(connection: psycopg.AsyncConnection[Any]) -> tuple[Any, ...] | None:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchone() if cursor.description else None

        return await self._twice(one)

    async def execute_many(self, statement: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement for each of the parameters, all or none of them; on a new connection as `execute`."""

        async def all_of_them(connection: psycopg.AsyncConnection[Any]) -> None:
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(statement.encode(), parameters)

        await self._twice(all_of_them)

    async def _twice(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[Result]]) -> Result:
        async with self._turn:
            connection = await self._connected()
            try:
                return await work(connection)
            except Exception:
                if not connection.closed:
                    raise
            return await work(await self._connected())

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
