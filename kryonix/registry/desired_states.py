"""What each tenant that has a stack of its own is to be, and the final exports of those that leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from kryonix.registry.rows import Connection
from kryonix.registry.sql import QUERIES

__all__ = [
    "DesiredState",
    "DesiredStatus",
    "FinalExport",
    "clock",
    "fetch_desired_state",
    "fetch_desired_states",
    "fetch_due",
    "fetch_final_exports",
    "mark_applied",
    "put_desired_state",
    "put_final_export",
]

DesiredStatus = Literal["active", "suspended", "offboarding", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """One tenant's stack as it is to be. A tenant that is removed keeps its row, as history.

    `applied_generation` is the generation of credentials that the last finished run made, 0 before the first one, and
    `applied_at` when that run ended; where it is None or before `updated_at`, the world may not be as the row says.
    """

    cliente_id: str
    modules: tuple[str, ...]
    plan: str
    status: DesiredStatus = "active"
    cell: str = "main"
    credentials_generation: int = 1
    retiring_generation: int | None = None
    retiring_until: datetime | None = None
    remove_after: datetime | None = None
    applied_generation: int = 0
    applied_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def converged(self) -> bool:
        """Whether the last finished run was of this row as it is."""
        return self.applied_at is not None and self.updated_at is not None and self.applied_at >= self.updated_at

    @property
    def removing(self) -> bool:
        """Whether the tenant's removal has begun and not ended: it can only be finished."""
        return self.status == "removed" and self.remove_after is not None

    @property
    def stage(self) -> str:
        """The status for those who are told of it: one that is removed is gone."""
        return "removing" if self.removing else self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalExport:
    """What was kept of a tenant that left: its vhost's definitions, and its rows. No password and no hash is in it."""

    cliente_id: str
    definitions: Mapping[str, Any]
    rows: Mapping[str, Any]
    exported_at: datetime


def fetch_desired_state(connection: Connection, cliente_id: str, *, lock: bool = False) -> DesiredState | None:
    """One tenant's desired state, or None; with `lock`, nobody else changes the row until the transaction ends."""
    found = connection.execute(QUERIES["lock_desired_state" if lock else "fetch_desired_state"], {"id": cliente_id})
    row = found.fetchone()
    return None if row is None else _state(row)


def fetch_desired_states(
    connection: Connection, *, cell: str | None = None, after: str = "", limit: int | None = None
) -> list[DesiredState]:
    """Desired states by id, those of removed tenants too: all, or of one cell, or a page that begins after an id."""
    values = {"cell": cell, "after": after, "limit": limit}
    return [_state(row) for row in connection.execute(QUERIES["fetch_desired_states"], values)]


def fetch_due(connection: Connection) -> list[DesiredState]:
    """Whose overlap of credentials, or whose grace after offboarding, has passed by the database's clock."""
    return [_state(row) for row in connection.execute(QUERIES["fetch_due"])]


def put_desired_state(connection: Connection, state: DesiredState) -> DesiredState:
    """Write what a tenant is to be; written again, it is the same. `applied_*` and `updated_at` are not taken."""
    values = {
        "id": state.cliente_id,
        "modules": Jsonb(list(state.modules)),
        "plan": state.plan,
        "status": state.status,
        "cell": state.cell,
        "credentials_generation": state.credentials_generation,
        "retiring_generation": state.retiring_generation,
        "retiring_until": state.retiring_until,
        "remove_after": state.remove_after,
    }
    connection.execute(QUERIES["put_desired_state"], values)
    written = fetch_desired_state(connection, state.cliente_id)
    return state if written is None else written


def clock(connection: Connection) -> datetime:
    """The database's time, which is the same for all who look."""
    (row,) = connection.execute(QUERIES["clock"])
    now: datetime = row["now"]
    return now


def mark_applied(connection: Connection, state: DesiredState) -> bool:
    """Note that a run of this row has ended well. Where the row has changed meanwhile, it is unconverged, and False."""
    values = {
        "id": state.cliente_id,
        "generation": state.credentials_generation,
        "updated_at": state.updated_at,
    }
    marked = connection.execute(QUERIES["mark_applied"], values).rowcount == 1
    if not marked:
        connection.execute(QUERIES["mark_unapplied"], values)
    return marked


def put_final_export(
    connection: Connection, cliente_id: str, definitions: Mapping[str, Any], rows: Mapping[str, Any]
) -> None:
    """Keep what a leaving tenant had."""
    values = {"id": cliente_id, "definitions": Jsonb(dict(definitions)), "rows": Jsonb(dict(rows))}
    connection.execute(QUERIES["put_final_export"], values)


def fetch_final_exports(connection: Connection, cliente_id: str) -> list[FinalExport]:
    """A tenant's final exports, the newest first."""
    return [FinalExport(**row) for row in connection.execute(QUERIES["fetch_final_exports"], {"id": cliente_id})]


def _state(row: Mapping[str, Any]) -> DesiredState:
    return DesiredState(**{**row, "modules": tuple(row["modules"])})
