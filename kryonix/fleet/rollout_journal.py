"""Rollouts in the registry: started or resumed under a lock, with durable progress."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kryonix.engines.errors import LifecycleError
from kryonix.fleet.errors import InvalidRollout
from kryonix.fleet.waves import Waves
from kryonix.registry.connection import Connection
from kryonix.registry.rollouts import (
    Rollout,
    RolloutStatus,
    RolloutTenant,
    begin_rollout,
    end_rollout,
    fetch_latest_rollout,
    note_tenant,
    resume_rollout,
    session,
    try_lock,
)


class RolloutRunning(LifecycleError):
    """Another rollout is running. Two at a time would not see each other's failures."""

    exit_status = 3


class RegistryJournal:
    """One rollout's progress, written on the connection that holds the lock: a process that lost it can't continue."""

    def __init__(self, connection: Connection, rollout: int) -> None:
        self._connection, self._rollout = connection, rollout

    def note(self, tenant: RolloutTenant) -> None:
        note_tenant(self._connection, self._rollout, tenant)

    def end(self, status: RolloutStatus) -> None:
        end_rollout(self._connection, self._rollout, status)


class RolloutDesk:
    """Start and resume rollouts, as the one process that holds the lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, waves: Waves, *, concurrency: int, failure_budget: str) -> Rollout:
        """Start a rollout over these waves."""
        begin_rollout(self._connection, waves, concurrency=concurrency, failure_budget=failure_budget, holder=_holder())
        return self.latest()

    def resume(self, *, concurrency: int | None, failure_budget: str | None) -> Rollout:
        """Resume the last unfinished rollout. Raises InvalidRollout if there is none.

        Omitted arguments keep the values that it started with.
        """
        found = fetch_latest_rollout(self._connection)
        if found is None or not found.resumable:
            state = "none has run yet" if found is None else f"the last one, number {found.id}, is {found.status}"
            raise InvalidRollout(f"there is no rollout to resume: {state}. Start one without --resume")
        resume_rollout(
            self._connection,
            found.id,
            concurrency=concurrency or found.concurrency,
            failure_budget=failure_budget or found.failure_budget,
            holder=_holder(),
        )
        return self.latest()

    def journal(self, rollout: Rollout) -> RegistryJournal:
        return RegistryJournal(self._connection, rollout.id)

    def latest(self) -> Rollout:
        """Return the current rollout."""
        found = fetch_latest_rollout(self._connection)
        if found is None:
            raise InvalidRollout("the rollout's row has disappeared. Start the rollout again")
        return found


@contextmanager
def open_desk(registry_dsn: str) -> Iterator[RolloutDesk]:
    """Take the rollout lock. Raises RolloutRunning if another process holds it.

    The lock belongs to the database session and ends with this process, so none is ever left behind.
    """
    with session(registry_dsn) as connection:
        if not try_lock(connection):
            raise RolloutRunning(_running(fetch_latest_rollout(connection)))
        yield RolloutDesk(connection)


def _running(found: Rollout | None) -> str:
    remedy = "Wait for it to end; or stop that process, then run `kryonix fleet rollout --resume`"
    if found is None:
        return f"another rollout is just starting. {remedy}"
    done = sum(tenant.status in ("done", "skipped") for tenant in found.tenants)
    since = f"{found.started_at:%Y-%m-%d %H:%M:%S %Z}"
    return (
        f"rollout {found.id} is running: {found.holder}, since {since}, {done} of {len(found.tenants)} tenants done. "
        f"{remedy}"
    )


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"process {os.getpid()} on {socket.gethostname()} (user {user})"
