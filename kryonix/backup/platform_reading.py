"""Read a platform from its broker, its registry and its stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kryonix.backup.manifest import Facts
from kryonix.backup.platform_objects import Objects
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.reading import consistent, facts_of, state_of
from kryonix.engines.deployments import inputs_of
from kryonix.engines.engine import Engine, StackSpec
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import SCHEMA, Connection, connect
from kryonix.registry.tables import (
    Row,
    Rows,
    Table,
    fetch_models_to_keep,
    fetch_revision,
    fetch_rows,
    fetch_tables,
)

MODELS: Final = f"{SCHEMA}.routing_models"
MODELS_BYTES: Final = 64 * 1024 * 1024
"""Bytes of routing models in a bundle. Of more, only those in use are backed up: a model can be trained again."""
_MIGRATIONS: Final = "pulumi-python:dynamic/kryonix:Migrations"


def read_platform(broker: Broker, registry_dsn: str, engine: Engine, stack: str) -> tuple[PlatformSnapshot, Facts]:
    """Return the platform of a stack, and its facts.

    Rows are of one moment. Consistent: nothing on the broker changed meanwhile, or two readings of what is the
    platform's own are the same. Raises Changing after three tries.
    """
    dsn = whole_registry_dsn(engine, stack, registry_dsn)

    def read() -> _Reading:
        definitions = broker.get("definitions")
        registry = read_rows(dsn, models_bytes=MODELS_BYTES)
        found = PlatformSnapshot(
            stack=stack, definitions=definitions, rows=registry.rows, state=state_of(engine, stack)
        )
        return _Reading(found.objects, found.state, found, registry.revision)

    what = f"the platform of stack {stack!r}"
    reading, etag = consistent(what, broker.definitions_version, read, lambda _: True)
    return reading.snapshot, facts_of(broker, reading.revision, etag, reading.snapshot.counts)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A snapshot. Two are equal if the platform's own part is: tenants change all the time."""

    objects: Objects
    state: Mapping[str, Any] | None
    snapshot: PlatformSnapshot = field(compare=False)
    revision: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class RegistryRows:
    """All rows of both schemas, of one moment."""

    tables: Mapping[str, Table]
    rows: Rows = field(repr=False)
    revision: str


def read_rows(dsn: str, *, models_bytes: int | None = None) -> RegistryRows:
    """Return the registry's rows: all, or routing models that nobody uses up to a number of bytes."""

    def rows_of(connection: Connection, name: str, table: Table) -> list[Row]:
        if name == MODELS and models_bytes is not None:
            return fetch_models_to_keep(connection, models_bytes)
        return fetch_rows(connection, table)

    with connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tables = fetch_tables(connection)
        rows = {name: rows_of(connection, name, table) for name, table in tables.items()}
        return RegistryRows(tables, rows, fetch_revision(connection))


def whole_registry_dsn(engine: Engine, stack: str, registry_dsn: str) -> str:
    """Return the DSN of a role that may read, and if it can, write both schemas.

    The tables' owner, whom the stack's state knows. Where there is no state, a schedule's account has the given DSN.
    """
    found = inputs_of(engine.export(StackSpec(name=stack), show_secrets=True), _MIGRATIONS)
    return str(found.get("dsn") or registry_dsn)
