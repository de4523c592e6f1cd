"""A tenant's rows: its configuration, kept forever, and its credentials, kept while it exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from psycopg.types.json import Jsonb

from kryonix.registry.connection import QUERIES, Connection
from kryonix.registry.desired_states import DesiredStatus
from kryonix.registry.routing_models import remove_routing

Status = Literal["ativo", "suspenso", "removido"]

STATUS_NAMES: Final[Mapping[DesiredStatus, Status]] = {"active": "ativo", "suspended": "suspenso"}
"""Status in tenants.yaml to status in the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow:
    """A tenant in the registry. `password_hash` is RabbitMQ's salted SHA-256, None after the removal."""

    cliente_id: str
    vhost: str
    modulos: tuple[str, ...]
    plano: str
    status: Status
    username: str | None = None
    password_hash: str | None = field(default=None, repr=False)
    notify: Mapping[str, Any] | None = field(default=None, repr=False)
    """Where its alerts go, for a tenant without a desired state of its own."""


def put_tenant(connection: Connection, row: TenantRow) -> None:
    """Insert or update a tenant's rows."""
    values = {**asdict(row), "modulos": Jsonb(list(row.modulos))}
    connection.execute(QUERIES["put_configuration"], values)
    connection.execute(QUERIES["put_credentials"], values)
    _put_notify(connection, row.cliente_id, row.notify)


def _put_notify(connection: Connection, cliente_id: str, notify: Mapping[str, Any] | None) -> None:
    found = connection.execute(QUERIES["fetch_notify"], {"cliente_id": cliente_id}).fetchone()
    if found is not None and found["notify"] != notify:
        value = None if notify is None else Jsonb(dict(notify))
        connection.execute(QUERIES["put_notify"], {"cliente_id": cliente_id, "notify": value})


def retire_tenant(connection: Connection, cliente_id: str) -> None:
    """Mark a tenant as removed; delete its credentials, its models, and where its alerts go.

    The rest stays as history.
    """
    connection.execute(QUERIES["retire_configuration"], {"cliente_id": cliente_id})
    _put_notify(connection, cliente_id, None)
    connection.execute(QUERIES["delete_credentials"], {"cliente_id": cliente_id})
    remove_routing(connection, cliente_id)


def fetch_tenants(connection: Connection, cliente_id: str | None = None) -> list[TenantRow]:
    """Return all tenants, or one, ordered by id."""
    rows = connection.execute(QUERIES["fetch_tenants"], {"cliente_id": cliente_id})
    return [TenantRow(**{**row, "modulos": tuple(row["modulos"])}) for row in rows]


def fetch_configurations(connection: Connection) -> list[TenantRow]:
    """Return all tenants ordered by id, without credentials."""
    rows = connection.execute(QUERIES["fetch_configurations"])
    return [TenantRow(**{**row, "modulos": tuple(row["modulos"])}) for row in rows]
