"""A change rolled out over the fleet: canaries first, then waves, until all are done or too many have failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import groupby
from typing import Final, Protocol

from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.spec import ignore
from kryonix.fleet.waves import FailureBudget
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import RolloutStatus, RolloutTenant

__all__ = ["ROLLED_OUT", "Converger", "Journal", "RolloutRun", "failure_of", "take_part"]

ROLLED_OUT: Final = ("active", "suspended")
"""Whom a rollout reaches. Who leaves stays as it was exported; a resumed tenant is converged then."""

_ATTEMPTS, _LONGEST_ERROR = 3, 2000
_TRANSIENT = 3  # the exit status of a service that can't be reached, and of a stack that another run holds

OnTenant = Callable[[RolloutTenant], None]


class Converger(Protocol):
    """What a rollout needs of the operations on tenants."""

    def state(self, tenant_id: str) -> DesiredState:
        """A tenant's desired state as it is now."""

    def converge(self, tenant_id: str, on_event: OnEvent = ignore) -> Summary:
        """Bring the world to it."""


class Journal(Protocol):
    """Where a rollout writes how far it has come. Each note is kept when the call returns."""

    def note(self, tenant: RolloutTenant) -> None:
        """How one tenant stands."""

    def end(self, status: RolloutStatus) -> None:
        """How the rollout ended."""


def take_part(states: Iterable[DesiredState]) -> list[DesiredState]:
    """The tenants that a rollout reaches."""
    return [state for state in states if state.status in ROLLED_OUT]


def failure_of(error: Exception) -> str:
    """Why a tenant failed, for a person. An error that is none of ours is told with its type."""
    known = getattr(error, "exit_status", None) is not None
    return (str(error) if known else f"{type(error).__name__}: {error}")[:_LONGEST_ERROR]


class RolloutRun:
    """One run of a rollout, over what is left of it.

    A failed canary ends it at once, and so does a failure past the budget: who is under way is finished, nobody else is
    begun. A service that does not answer is tried three times, `pause` seconds apart. Where the journal can't be
    written, nobody else is begun either, and its error is raised.
    """

    def __init__(
        self,
        converger: Converger,
        journal: Journal,
        *,
        concurrency: int,
        budget: FailureBudget,
        on_tenant: OnTenant = lambda tenant: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._converger, self._journal, self._on_tenant, self._pause = converger, journal, on_tenant, pause
        self._concurrency, self._budget = concurrency, budget
        self._lock = threading.Lock()
        self._halted, self._allowed = False, 0
        self._tenants: dict[str, RolloutTenant] = {}

    def run(self, tenants: Sequence[RolloutTenant]) -> tuple[RolloutStatus, tuple[RolloutTenant, ...]]:
        """Go through the waves, and return how it ended, and how every tenant stands."""
        self._tenants = {tenant.cliente_id: tenant for tenant in tenants}
        self._allowed = self._budget.allowed(len(tenants))
        for _, wave in groupby(tenants, key=lambda tenant: tenant.wave):
            self._run_wave([tenant for tenant in wave if tenant.status == "pending"])
            if self._halted:
                break
        status = self._status()
        self._journal.end(status)
        return status, tuple(self._tenants.values())

    def _run_wave(self, wave: list[RolloutTenant]) -> None:
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="rollout") as pool:
            futures = [pool.submit(self._run_tenant, tenant) for tenant in wave]
            try:
                wait(futures)
            except BaseException:  # interrupted: leaving the block waits for those under way, and only for them
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
        """Bring one tenant there. Its row is read now: it may have changed since the rollout was planned."""
        began = time.monotonic()
        try:
            status = self._converger.state(tenant.cliente_id).status
            if status not in ROLLED_OUT:
                return replace(tenant, status="skipped", error=f"is {status} now")
            summary = self._patiently(tenant.cliente_id)
        except Exception as error:  # noqa: BLE001  a tenant's failure is counted, whatever it is
            seconds = time.monotonic() - began
            return replace(tenant, status="failed", error=failure_of(error), seconds=seconds)
        return replace(tenant, status="done", changes=summary.changes, seconds=time.monotonic() - began)

    def _patiently(self, tenant_id: str) -> Summary:
        for attempt in range(1, _ATTEMPTS):
            try:
                return self._converger.converge(tenant_id)
            except Exception as error:
                if getattr(error, "exit_status", None) != _TRANSIENT:
                    raise
            self._pause(2.0**attempt)
        return self._converger.converge(tenant_id)

    def _note(self, tenant: RolloutTenant) -> None:
        self._journal.note(tenant)
        with self._lock:
            self._tenants[tenant.cliente_id] = tenant
            failures = sum(each.status == "failed" for each in self._tenants.values())
            canary_failed = tenant.status == "failed" and tenant.wave == 0
            self._halted = self._halted or canary_failed or failures > self._allowed
        self._on_tenant(tenant)

    def _status(self) -> RolloutStatus:
        if self._halted:
            return "stopped"
        return "incomplete" if any(tenant.status == "failed" for tenant in self._tenants.values()) else "done"
