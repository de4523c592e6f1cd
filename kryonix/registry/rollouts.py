"""How far each rollout has come, kept so that one that was cut off can be gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from kryonix.registry.errors import translated
from kryonix.registry.lock_session import open_session
from kryonix.registry.rows import Connection
from kryonix.registry.sql import QUERIES

__all__ = [
    "Rollout",
    "RolloutStatus",
    "RolloutTenant",
    "TenantStatus",
    "begin_rollout",
    "end_rollout",
    "fetch_latest_rollout",
    "note_tenant",
    "resume_rollout",
    "session",
    "try_lock",
]

RolloutStatus = Literal["running", "done", "incomplete", "stopped", "superseded"]
TenantStatus = Literal["pending", "running", "done", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTenant:
    """One tenant of a rollout. `changes` counts steps by op; `error` is why it failed or was left out."""

    cliente_id: str
    wave: int
    status: TenantStatus = "pending"
    changes: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout, with its tenants in the order of their waves. `holder` says which process ran it last."""

    id: int
    status: RolloutStatus
    concurrency: int
    failure_budget: str
    holder: str
    started_at: datetime
    ended_at: datetime | None = None
    tenants: tuple[RolloutTenant, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether something is left to do. One that says it is running may have been cut off: its lock tells."""
        return self.status in ("running", "incomplete", "stopped")


@contextmanager
def session(dsn: str) -> Iterator[Connection]:
    """A connection each of whose statements is a transaction, for what has to outlast the process at once.

    May be used by several threads. Raises RegistryUnavailable or RegistryRefused, also for what happens inside.
    """
    with translated(dsn), open_session(dsn) as connection:
        yield connection


def try_lock(connection: Connection) -> bool:
    """Take the lock that a rollout holds as long as this connection lives; whether it was free."""
    (row,) = connection.execute(QUERIES["try_lock_rollouts"])
    return bool(row["held"])


def begin_rollout(
    connection: Connection, waves: Sequence[Sequence[str]], *, concurrency: int, failure_budget: str, holder: str
) -> int:
    """Note a new rollout with all its tenants, and give up what was left of older ones. Returns its number."""
    values = {"concurrency": concurrency, "failure_budget": failure_budget, "holder": holder}
    with connection.transaction():
        (row,) = connection.execute(QUERIES["begin_rollout"], values)
        for wave, tenants in enumerate(waves):
            entry = {"rollout": row["id"], "wave": wave, "tenants": list(tenants)}
            connection.execute(QUERIES["add_rollout_tenants"], entry)
    return int(row["id"])


def resume_rollout(connection: Connection, rollout: int, *, concurrency: int, failure_budget: str, holder: str) -> None:
    """Take a rollout up again: what failed or was under way is to be done anew."""
    values = {"rollout": rollout, "concurrency": concurrency, "failure_budget": failure_budget, "holder": holder}
    with connection.transaction():
        connection.execute(QUERIES["resume_rollout"], values)
        connection.execute(QUERIES["retry_rollout_tenants"], {"rollout": rollout})


def fetch_latest_rollout(connection: Connection) -> Rollout | None:
    """The newest rollout, whatever became of it, or None where there has been none."""
    row = connection.execute(QUERIES["fetch_latest_rollout"]).fetchone()
    if row is None:
        return None
    tenants = connection.execute(QUERIES["fetch_rollout_tenants"], {"rollout": row["id"]})
    return Rollout(**row, tenants=tuple(RolloutTenant(**tenant) for tenant in tenants))


def note_tenant(connection: Connection, rollout: int, tenant: RolloutTenant) -> None:
    """Write down how one tenant of a rollout stands."""
    values: dict[str, Any] = {
        "rollout": rollout,
        "id": tenant.cliente_id,
        "status": tenant.status,
        "changes": Jsonb(dict(tenant.changes)),
        "seconds": tenant.seconds,
        "error": tenant.error,
    }
    connection.execute(QUERIES["note_rollout_tenant"], values)


def end_rollout(connection: Connection, rollout: int, status: RolloutStatus) -> None:
    """Write down how a rollout ended."""
    connection.execute(QUERIES["end_rollout"], {"rollout": rollout, "status": status})
