"""Whole rows of the registry's tables as JSON, as PostgreSQL writes and reads it: exact, and open to later columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from kryonix.registry.connection import QUERIES, SCHEMA, SIGNUP_SCHEMA, Connection

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""The rows of each table, by its name with the schema."""

TENANT_TABLES: Final = (
    "desired_states",
    "rabbitmq_configurations",
    "rabbitmq_credentials",
    "final_exports",
    "routing_models",
    "routing_modes",
)
"""The tables of the tenants schema with a tenant's rows: all but the history of rollouts, which is of all tenants, and
the consent to share outcomes, which nobody gets back with an old backup."""
_LEFT_OUT: Final = "applied_digest"
"""A column that nobody gets back with an old backup: it is about the stack and the broker as they are."""
_BATCH: Final = 16 * 1024 * 1024
"""Characters of JSON that one statement gets: PostgreSQL takes at most 256 MiB."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `identity` is a column that the database numbers, `referenced` tells if other tables refer to it."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    identity: str | None = None
    referenced: bool = False

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(*self.name.split("."))

    def key_of(self, row: Mapping[str, Any]) -> str:
        """Return the values of a row's key as one text."""
        return ", ".join(str(row[column]) for column in self.key)


def fetch_tables(connection: Connection) -> dict[str, Table]:
    """Return the tables by name; a table comes after those that it refers to."""
    found = {
        row["name"]: row for row in connection.execute(QUERIES["fetch_tables"], {"schemas": [SCHEMA, SIGNUP_SCHEMA]})
    }
    order = TopologicalSorter({name: row["references"] for name, row in found.items()}).static_order()
    referenced = {name for row in found.values() for name in row["references"]}
    return {
        name: Table(name, tuple(row["columns"]), tuple(row["key"]), row["identity"], name in referenced)
        for name, row in ((name, found[name]) for name in order)
    }


def tenant_tables(connection: Connection) -> list[Table]:
    """Return the tables with a tenant's rows; a table comes after those that it refers to."""
    names = {f"{SCHEMA}.{name}" for name in TENANT_TABLES}
    return [table for name, table in fetch_tables(connection).items() if name in names]


def fetch_revision(connection: Connection) -> str:
    """Return the revision of the tables; empty before the first migration."""
    row = connection.execute(QUERIES["fetch_revision"]).fetchone()
    return str(row["version_num"]) if row else ""


def fetch_rows(connection: Connection, table: Table, cliente_id: str | None = None) -> list[Row]:
    """Return a table's rows by key, or those of one tenant. Times are in UTC, bytes are hexadecimal.

    The digests of what stacks were applied from are left out.
    """
    connection.execute("SET LOCAL TIME ZONE 'UTC'")
    order = sql.SQL(", ").join(sql.Identifier("t", column) for column in table.key)
    own = sql.SQL("WHERE t.cliente_id = {}").format(cliente_id) if cliente_id is not None else sql.SQL("")
    statement = sql.SQL("SELECT to_jsonb(t) - {} AS row FROM {} AS t {} ORDER BY {}").format(
        _LEFT_OUT, table.identifier, own, order
    )
    return [found["row"] for found in connection.execute(statement)]


def fetch_models_to_keep(connection: Connection, limit: int) -> list[Row]:
    """Return routing models as `fetch_rows` does: those in use, and others from the newest on, up to `limit` bytes."""
    connection.execute("SET LOCAL TIME ZONE 'UTC'")
    return [found["row"] for found in connection.execute(QUERIES["fetch_models_to_keep"], {"limit": limit})]


def put_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with their numbers, or overwrite those with the same key. Missing columns get their default."""
    for batch in _batches(rows):
        _put_rows(connection, table, batch)


def _put_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = [column for column in table.columns if column in rows[0]]
    others = [column for column in columns if column not in table.key]
    changes = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column)) for column in others]
    instead = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(changes)) if changes else sql.SQL("NOTHING")
    statement = sql.SQL("{} ON CONFLICT ({}) DO {}").format(
        _insert(table, columns), sql.SQL(", ").join(map(sql.Identifier, table.key)), instead
    )
    connection.execute(statement, {"rows": Jsonb([dict(row) for row in rows])})
    if table.identity is not None:
        _advance(connection, table, rows)


def add_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that a table with numbers lacks, under new numbers: theirs may be another tenant's now."""
    if not rows:
        return 0
    columns = [column for column in table.columns if column in rows[0] and column != table.identity]
    statement = sql.SQL("{} WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE to_jsonb(t) - {} = to_jsonb(r) - {})").format(
        _insert(table, columns), table.identifier, table.identity, table.identity
    )
    return connection.execute(statement, {"rows": Jsonb([dict(row) for row in rows])}).rowcount


def add_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add the rows that a table lacks, and return how many. What is there stays as it is.

    Where other rows have taken their numbers, history that nothing refers to is added under new ones.
    """
    return sum(_add_missing(connection, table, batch) for batch in _batches(rows))


def _add_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    columns = [column for column in table.columns if column in rows[0]]
    statement = sql.SQL("{} ON CONFLICT DO NOTHING").format(_insert(table, columns))
    added = connection.execute(statement, {"rows": Jsonb([dict(row) for row in rows])}).rowcount
    if table.identity is not None:
        _advance(connection, table, rows)
        if added < len(rows) and not table.referenced:
            added += add_rows(connection, table, rows)
    return added


def _batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows in batches that one statement takes; nothing for none."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if batch and size + length > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _advance(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let the table's next number be higher than those of the rows."""
    highest = max(int(row[str(table.identity)]) for row in rows)
    connection.execute(QUERIES["advance_identity"], {"table": table.name, "column": table.identity, "highest": highest})


def _insert(table: Table, columns: Sequence[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    # The names come from the database's own catalog.
    return sql.SQL(
        "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE "
        "SELECT {names} FROM jsonb_populate_recordset(NULL::{table}, {rows}) AS r"
    ).format(table=table.identifier, names=names, rows=sql.Placeholder("rows"))
