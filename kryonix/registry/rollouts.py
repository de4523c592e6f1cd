"""Progress of rollouts, stored so that an interrupted one can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from kryonix.registry.connection import QUERIES, Connection, open_session
from kryonix.registry.errors import translated

RolloutStatus = Literal["running", "done", "incomplete", "stopped", "superseded"]
TenantStatus = Literal["pending", "running", "done", "failed", "skipped", "unchanged"]
ENDED: Final = ("done", "skipped", "unchanged")
"""Statuses of tenants for whom nothing is left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTenant:
    """One tenant of a rollout. `changes` counts steps by op; `error` says why it failed or was skipped.

    A tenant that the rollout left out, as it had nothing to change, is `unchanged` and has no wave.
    """

    cliente_id: str
    wave: int | None
    status: TenantStatus = "pending"
    changes: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout with its tenants in wave order. `holder` names the process that ran it last."""

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
        """Return True if work is left. A `running` one may have been interrupted; its lock shows that."""
        return self.status in ("running", "incomplete", "stopped")


@contextmanager
def session(dsn: str) -> Iterator[Connection]:
    """Open a connection in autocommit mode, so that progress survives a crash. Thread-safe.

    Raises RegistryUnavailable or RegistryRefused, for the block's statements too.
    """
    with translated(dsn), open_session(dsn) as connection:
        yield connection


def try_lock(connection: Connection) -> bool:
    """Take the rollout lock for the lifetime of this connection. Return False if it is taken."""
    (row,) = connection.execute(QUERIES["try_lock_rollouts"])
    return bool(row["held"])


def fetch_latest_rollout(connection: Connection) -> Rollout | None:
    """Return the newest rollout in any status, or None."""
    row = connection.execute(QUERIES["fetch_latest_rollout"]).fetchone()
    if row is None:
        return None
    tenants = connection.execute(QUERIES["fetch_rollout_tenants"], {"rollout": row["id"]})
    return Rollout(**row, tenants=tuple(RolloutTenant(**tenant) for tenant in tenants))
