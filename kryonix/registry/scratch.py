"""Scratch of verifications: locks on what one uses elsewhere, and tables that no other session ever sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from secrets import token_hex
from typing import Any

import psycopg
from psycopg import sql

from kryonix.registry.connection import QUERIES, BoundedConnection, connect, open_session
from kryonix.registry.errors import translated
from kryonix.registry.tables import Rows, fetch_rows, fetch_tables, put_rows


class ScratchLocks:
    """Locks of one process on scratch by name. They end with it, however it ends."""

    def __init__(self, dsn: str, session: BoundedConnection) -> None:
        self._dsn, self._session = dsn, session

    def identity(self) -> str:
        """Return what tells the registry's server from others."""
        return str(self._row("registry_identity")["identity"])

    def hold(self, name: str) -> bool:
        """Return True if the lock on this name is now this process', and False if it is another's."""
        return bool(self._row("hold_scratch", name=name)["held"])

    def _row(self, query: str, **values: str) -> Mapping[str, Any]:
        with translated(self._dsn):
            (row,) = self._session.execute(QUERIES[query], values)
        return row


@contextmanager
def scratch_locks(dsn: str) -> Iterator[ScratchLocks]:
    """Open a session for locks, closed at the end of the block."""
    with translated(dsn):
        session = open_session(dsn)
    try:
        yield ScratchLocks(dsn, session)
    finally:
        with suppress(psycopg.Error):
            session.close()


def through_scratch(dsn: str, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Rows:
    """Return the rows as copies of their tables give them back: without a column that a table does not have.

    The copies are in a schema that its transaction takes back. Raises RegistryRefused for rows that a table refuses,
    and for a role that may not create a schema.
    """
    schema = f"kryonix_verify_{token_hex(4)}"
    found: Rows = {name: [] for name in rows}
    with connect(dsn) as connection, connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for name, table in fetch_tables(connection).items():
            if name in rows:
                copy = replace(table, name=f"{schema}.{name.replace('.', '_')}")
                like = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
                connection.execute(like.format(copy.identifier, table.identifier))
                put_rows(connection, copy, rows[name])
                found[name] = fetch_rows(connection, copy)
    return found
