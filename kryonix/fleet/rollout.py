"""Roll a change out over the fleet: canaries first, then waves, until done or until too many have failed."""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from typing import Final, Protocol

from psycopg.types.json import Jsonb

from kryonix.engines.engine import ignore
from kryonix.engines.errors import LifecycleError
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import KryonixError
from kryonix.fleet.waves import FailureBudget, InvalidRollout, Waves
from kryonix.registry.connection import QUERIES, Connection
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import (
    ENDED,
    Rollout,
    RolloutStatus,
    RolloutTenant,
    fetch_latest_rollout,
    session,
    try_lock,
)

ROLLED_OUT: Final = ("active", "suspended")
"""Statuses that a rollout includes. An offboarding tenant stays as exported, and is converged when resumed."""

_ATTEMPTS, _LONGEST_ERROR = 3, 2000
_TRANSIENT = 3  # exit status of an unavailable service, and of a locked stack


class Converger(Protocol):
    """The operations on tenants that a rollout needs."""

    def state(self, tenant_id: str) -> DesiredState: ...
    def converge(self, tenant_id: str, on_event: OnEvent = ignore, *, thorough: bool = True) -> Summary: ...


class Journal(Protocol):
    """A rollout's durable progress: each note is stored when the call returns."""

    def note(self, tenant: RolloutTenant) -> None: ...
    def end(self, status: RolloutStatus) -> None: ...


def take_part(states: Iterable[DesiredState]) -> list[DesiredState]:
    """Return the tenants that a rollout includes."""
    return [state for state in states if state.status in ROLLED_OUT]


def failure_of(error: Exception) -> str:
    """Describe a tenant's failure. A foreign error is prefixed with its type."""
    known = isinstance(error, KryonixError)
    return (str(error) if known else f"{type(error).__name__}: {error}")[:_LONGEST_ERROR]


class RolloutRun:
    """One run over a rollout's remaining tenants.

    After a failed canary, or a failure beyond the budget, tenants in progress are completed and no new ones are
    started. The same holds if the journal can't be written; its error is then raised. An unavailable service is tried
    three times, `pause` seconds apart. If not `thorough`, stacks that are as their last runs left them are not read.
    """

    def __init__(
        self,
        converger: Converger,
        journal: Journal,
        *,
        concurrency: int,
        budget: FailureBudget,
        thorough: bool = True,
        on_tenant: Callable[[RolloutTenant], None] = lambda tenant: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._converger, self._journal, self._on_tenant, self._pause = converger, journal, on_tenant, pause
        self._concurrency, self._budget, self._thorough = concurrency, budget, thorough
        self._lock = threading.Lock()
        self._halted, self._allowed = False, 0
        self._tenants: dict[str, RolloutTenant] = {}

    def run(self, tenants: Sequence[RolloutTenant]) -> tuple[RolloutStatus, tuple[RolloutTenant, ...]]:
        """Run the waves. Return the rollout's status and all tenants."""
        self._tenants = {tenant.cliente_id: tenant for tenant in tenants}
        self._allowed = self._budget.allowed(sum(tenant.status != "unchanged" for tenant in tenants))
        for _, wave in groupby(tenants, key=lambda tenant: tenant.wave):
            self._run_wave([tenant for tenant in wave if tenant.status == "pending"])
            if self._halted:
                break
        failed = any(tenant.status == "failed" for tenant in self._tenants.values())
        status: RolloutStatus = "stopped" if self._halted else "incomplete" if failed else "done"
        self._journal.end(status)
        return status, tuple(self._tenants.values())

    def _run_wave(self, wave: list[RolloutTenant]) -> None:
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="rollout") as pool:
            futures = [pool.submit(self._run_tenant, tenant) for tenant in wave]
            try:
                wait(futures)
            except BaseException:  # interrupted: leaving the block waits for the tenants in progress only
                self._halted = True
                raise
        for future in futures:
            future.result()

    def _run_tenant(self, tenant: RolloutTenant) -> None:
        if self._halted:
            return
        try:
            self._note(replace(tenant, status="running"))
            self._note(self._converged(tenant))
        except BaseException:
            self._halted = True
            raise

    def _converged(self, tenant: RolloutTenant) -> RolloutTenant:
        """Converge one tenant, from its current row: it may have changed since the rollout was planned."""
        began = time.monotonic()
        try:
            status = self._converger.state(tenant.cliente_id).status
            if status not in ROLLED_OUT:
                return replace(tenant, status="skipped", error=f"is {status} now")
            summary = self._converge(tenant.cliente_id)
        except Exception as error:  # noqa: BLE001  any failure of a tenant counts against the budget
            seconds = time.monotonic() - began
            return replace(tenant, status="failed", error=failure_of(error), seconds=seconds)
        return replace(tenant, status="done", changes=summary.changes, seconds=time.monotonic() - began)

    def _converge(self, tenant_id: str) -> Summary:
        for attempt in range(1, _ATTEMPTS):
            try:
                return self._converger.converge(tenant_id, thorough=self._thorough)
            except KryonixError as error:
                if error.exit_status != _TRANSIENT:
                    raise
            self._pause(2.0**attempt)
        return self._converger.converge(tenant_id, thorough=True)  # whatever the attempts have left

    def _note(self, tenant: RolloutTenant) -> None:
        self._journal.note(tenant)
        with self._lock:
            self._tenants[tenant.cliente_id] = tenant
            failures = sum(each.status == "failed" for each in self._tenants.values())
            canary_failed = tenant.status == "failed" and tenant.wave == 0
            self._halted = self._halted or canary_failed or failures > self._allowed
        self._on_tenant(tenant)


class RolloutRunning(LifecycleError):
    """Another rollout is running. Two at a time would not see each other's failures."""

    exit_status = 3


class RolloutDesk:
    """Start, resume and record rollouts, on the connection that holds the lock: who lost it can't continue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rollout = 0

    def begin(self, waves: Waves, *, unchanged: Sequence[str] = (), concurrency: int, failure_budget: str) -> Rollout:
        """Start a rollout over these waves, without the unchanged tenants; unfinished older ones are superseded."""
        values = {"concurrency": concurrency, "failure_budget": failure_budget, "holder": _holder()}
        with self._connection.transaction():
            (row,) = self._connection.execute(QUERIES["begin_rollout"], values)
            for wave, tenants in enumerate(waves):
                entry = {"rollout": row["id"], "wave": wave, "tenants": list(tenants)}
                self._connection.execute(QUERIES["add_rollout_tenants"], entry)
            if unchanged:  # a registry of an older version knows no such tenants
                left_out = {"rollout": row["id"], "tenants": list(unchanged)}
                self._connection.execute(QUERIES["add_unchanged_tenants"], left_out)
        return self.latest()

    def resume(self, *, concurrency: int | None, failure_budget: str | None) -> Rollout:
        """Resume the last unfinished rollout: failed and interrupted tenants are pending again.

        Omitted arguments keep the values that it started with. Raises InvalidRollout if there is none.
        """
        found = fetch_latest_rollout(self._connection)
        if found is None or not found.resumable:
            state = "none has run yet" if found is None else f"the last one, number {found.id}, is {found.status}"
            raise InvalidRollout(f"there is no rollout to resume: {state}. Start one without --resume")
        values = {
            "rollout": found.id,
            "concurrency": concurrency or found.concurrency,
            "failure_budget": failure_budget or found.failure_budget,
            "holder": _holder(),
        }
        self._connection.execute(QUERIES["resume_rollout"], values)
        return self.latest()

    def latest(self) -> Rollout:
        """Return the current rollout."""
        found = fetch_latest_rollout(self._connection)
        if found is None:
            raise InvalidRollout("the rollout's row has disappeared. Start the rollout again")
        self._rollout = found.id
        return found

    def note(self, tenant: RolloutTenant) -> None:
        values = {**asdict(tenant), "rollout": self._rollout, "changes": Jsonb(dict(tenant.changes))}
        self._connection.execute(QUERIES["note_rollout_tenant"], values)

    def end(self, status: RolloutStatus) -> None:
        self._connection.execute(QUERIES["end_rollout"], {"rollout": self._rollout, "status": status})


@contextmanager
def open_desk(registry_dsn: str) -> Iterator[RolloutDesk]:
    """Take the rollout lock. Raises RolloutRunning if another process holds it.

    The lock belongs to the database session and ends with this process, so none is ever left behind.
    """
    with session(registry_dsn) as connection:
        if not try_lock(connection):
            found = fetch_latest_rollout(connection)
            what = "another rollout is just starting"
            if found is not None:
                done = sum(tenant.status in ENDED for tenant in found.tenants)
                progress = f"{done} of {len(found.tenants)} tenants done"
                since = f"{found.started_at:%Y-%m-%d %H:%M:%S %Z}"
                what = f"rollout {found.id} is running: {found.holder}, since {since}, {progress}"
            remedy = "Wait for it to end; or stop that process, then run `kryonix fleet rollout --resume`"
            raise RolloutRunning(f"{what}. {remedy}")
        yield RolloutDesk(connection)


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"process {os.getpid()} on {socket.gethostname()} (user {user})"
