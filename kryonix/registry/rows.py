"""The rows of a tenant: its configuration, kept for ever, and its credentials, kept while it exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from kryonix.registry.bounded import KEEPALIVES, BoundedConnection
from kryonix.registry.errors import translated
from kryonix.registry.sql import QUERIES

__all__ = [
    "STATUS_NAMES",
    "Connection",
    "Status",
    "TenantRow",
    "connect",
    "fetch_tenants",
    "put_tenant",
    "retire_tenant",
]

Connection = psycopg.Connection[dict[str, Any]]
Status = Literal["ativo", "suspenso", "removido"]

STATUS_NAMES: Final[Mapping[str, Status]] = {"active": "ativo", "suspended": "suspenso"}
"""A tenant's status in tenants.yaml, and what the registry calls it."""

_CONNECT_TIMEOUT_S: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow:
    """What the registry knows of a tenant. `password_hash` is RabbitMQ's salted SHA-256; None once it is removed."""

    cliente_id: str
    vhost: str
    modulos: tuple[str, ...]
    plano: str
    status: Status
    username: str | None = None
    password_hash: str | None = field(default=None, repr=False)


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """A connection and a transaction, committed at the end.

    Raises RegistryUnavailable, also where a statement is not answered in 30 s, or RegistryRefused; also for what
    happens inside.
    """
    settings = {"connect_timeout": _CONNECT_TIMEOUT_S, **KEEPALIVES}
    with translated(dsn), BoundedConnection.connect(dsn, row_factory=dict_row, **settings) as connection:
        yield connection


def put_tenant(connection: Connection, row: TenantRow) -> None:
    """Write a tenant's rows; written again, they are the same."""
    values = {
        "cliente_id": row.cliente_id,
        "vhost": row.vhost,
        "modulos": Jsonb(list(row.modulos)),
        "plano": row.plano,
        "status": row.status,
        "username": row.username,
        "password_hash": row.password_hash,
    }
    connection.execute(QUERIES["put_configuration"], values)
    connection.execute(QUERIES["put_credentials"], values)


def retire_tenant(connection: Connection, cliente_id: str) -> None:
    """Mark a tenant as removed and forget its credentials. Its configuration stays as history."""
    connection.execute(QUERIES["retire_configuration"], {"cliente_id": cliente_id})
    connection.execute(QUERIES["delete_credentials"], {"cliente_id": cliente_id})


def fetch_tenants(connection: Connection, cliente_id: str | None = None) -> list[TenantRow]:
    """All tenants, or one, by id."""
    rows = connection.execute(QUERIES["fetch_tenants"], {"cliente_id": cliente_id})
    return [TenantRow(**{**row, "modulos": tuple(row["modulos"])}) for row in rows]
