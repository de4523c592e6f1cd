"""Desired states of tenants with their own stack, and the final exports of offboarded ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, Self

from psycopg.types.json import Jsonb

from kryonix.registry.connection import QUERIES, Connection
from kryonix.topology.notify import Notify

DesiredStatus = Literal["active", "suspended", "offboarding", "removed"]
Auth = Literal["password", "certificate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """The desired state of one tenant. A removed tenant keeps its row as history.

    `applied_generation` is the credentials generation of the last finished run (0 before the first) and `applied_at`
    the end of that run. If `applied_at` is None or before `updated_at`, the stack may differ from the row.
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
    auth: Auth = "password"
    """How its applications log in."""
    notify: Notify | None = None
    """Where its alerts go. No part of the stack: a change needs no run, and leaves `updated_at` as it is."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return a row as a state. Other columns are ignored."""
        values = {each.name: row[each.name] for each in fields(cls)}
        return cls(**values | {"modules": tuple(row["modules"]), "notify": Notify.stored(row["notify"])})

    @property
    def converged(self) -> bool:
        """Return True if the last finished run applied this state."""
        return self.applied_at is not None and self.updated_at is not None and self.applied_at >= self.updated_at

    @property
    def removing(self) -> bool:
        """Return True if a removal has started and not finished: it can only be completed."""
        return self.status == "removed" and self.remove_after is not None

    @property
    def stage(self) -> str:
        """Return the status to display: `removing` until a removal has finished."""
        return "removing" if self.removing else self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalExport:
    """The definitions and rows of an offboarded tenant, without password or hash."""

    cliente_id: str
    definitions: Mapping[str, Any]
    rows: Mapping[str, Any]
    exported_at: datetime


def fetch_desired_state(connection: Connection, cliente_id: str, *, lock: bool = False) -> DesiredState | None:
    """Return a tenant's desired state, or None. `lock` locks the row until the transaction ends."""
    found = connection.execute(QUERIES["lock_desired_state" if lock else "fetch_desired_state"], {"id": cliente_id})
    row = found.fetchone()
    return None if row is None else DesiredState.of(row)


def fetch_desired_states(connection: Connection, *, cell: str | None = None) -> list[DesiredState]:
    """Return desired states ordered by id, removed tenants included: all, or one cell's."""
    return [DesiredState.of(row) for row in connection.execute(QUERIES["fetch_desired_states"], {"cell": cell})]


def fetch_due(connection: Connection) -> list[DesiredState]:
    """Return tenants whose credentials overlap or offboarding grace period has ended, by the database's clock."""
    return [DesiredState.of(row) for row in connection.execute(QUERIES["fetch_due"])]


def put_desired_state(connection: Connection, state: DesiredState) -> DesiredState:
    """Insert or update a desired state, without `applied_*` and `updated_at`. Return it as stored."""
    values = {**asdict(state), "id": state.cliente_id, "modules": Jsonb(list(state.modules))}
    connection.execute(QUERIES["put_desired_state"], values)
    written = fetch_desired_state(connection, state.cliente_id)
    if written is not None and written.notify != state.notify:
        notify = None if state.notify is None else Jsonb(state.notify.plain())
        connection.execute(QUERIES["put_desired_notify"], {"id": state.cliente_id, "notify": notify})
        written = replace(written, notify=state.notify)
    if written is not None and written.auth != state.auth:
        connection.execute(QUERIES["put_desired_auth"], {"id": state.cliente_id, "auth": state.auth})
        written = replace(written, auth=state.auth)
    return state if written is None else written


def clock(connection: Connection) -> datetime:
    """Return the database's time, the same for all processes."""
    (row,) = connection.execute(QUERIES["clock"])
    now: datetime = row["now"]
    return now


def mark_applied(connection: Connection, state: DesiredState, digest: str | None = None) -> bool:
    """Record a successful run of this state. Return False, and mark it unconverged, if it has changed meanwhile.

    `digest` is that of what the stack was applied from; None if it is not known.
    """
    values = {"id": state.cliente_id, "generation": state.credentials_generation, "updated_at": state.updated_at}
    marked = connection.execute(QUERIES["mark_applied"], values).rowcount == 1
    if not marked:
        mark_unapplied(connection, state.cliente_id)
    _put_digest(connection, state.cliente_id, digest if marked else None)
    return marked


def mark_unapplied(connection: Connection, cliente_id: str) -> None:
    """Record that the stack may differ from the row."""
    connection.execute(QUERIES["mark_unapplied"], {"id": cliente_id})


def fetch_applied_digests(connection: Connection, cliente_id: str | None = None) -> dict[str, str]:
    """Return the digest of what each tenant's stack was last applied from, or one tenant's, where it is known."""
    found = connection.execute(QUERIES["fetch_applied_digests"], {"id": cliente_id})
    return {row["cliente_id"]: row["digest"] for row in found}


def forget_applied(connection: Connection, cliente_id: str) -> str | None:
    """Clear the digest, and return it: the stack, or what it has made, may differ from what was applied."""
    digest = fetch_applied_digests(connection, cliente_id).get(cliente_id)
    if digest is not None:
        _put_digest(connection, cliente_id, None)
    return digest


def renew_applied(connection: Connection, cliente_id: str, before: str, digest: str) -> None:
    """Replace a digest by one of the same stack, unless somebody else has written it meanwhile."""
    values = {"id": cliente_id, "digest": digest, "before": before}
    connection.execute(QUERIES["put_applied_digest"], values)


def _put_digest(connection: Connection, cliente_id: str, digest: str | None) -> None:
    row = connection.execute(QUERIES["keeps_applied_digests"], {"id": cliente_id}).fetchone()
    if row is not None and row["kept"]:
        connection.execute(QUERIES["put_applied_digest"], {"id": cliente_id, "digest": digest, "before": None})


def put_final_export(
    connection: Connection, cliente_id: str, definitions: Mapping[str, Any], rows: Mapping[str, Any]
) -> None:
    """Store an offboarded tenant's final export."""
    values = {"id": cliente_id, "definitions": Jsonb(dict(definitions)), "rows": Jsonb(dict(rows))}
    connection.execute(QUERIES["put_final_export"], values)


def fetch_final_exports(connection: Connection, cliente_id: str) -> list[FinalExport]:
    """Return a tenant's final exports, newest first."""
    return [FinalExport(**row) for row in connection.execute(QUERIES["fetch_final_exports"], {"id": cliente_id})]
