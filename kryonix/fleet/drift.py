"""Drift: differences between a tenant's stack and its broker, made by hand or not yet rolled out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Step, Summary
from kryonix.fleet.rollout import failure_of
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.specs import vhost_of
from kryonix.tenants.stacks import TenantStacks
from kryonix.tenants.undeclared import Undeclared, find_undeclared
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One tenant's drift.

    `found` are changes that this refresh has read. `pending` are the changes of the next rollout: `found`, earlier
    findings, and changes of the program. `undeclared` are objects in the tenant's vhost that no stack declares.
    """

    tenant: str
    cell: str
    found: tuple[Step, ...] = ()
    pending: tuple[Step, ...] = ()
    undeclared: Undeclared | None = None
    problem: str = ""

    @property
    def differs(self) -> bool:
        return bool(self.found or self.pending or self.undeclared)


def find_drift(
    engine: Engine, cells: Cells, states: Iterable[DesiredState], *, concurrency: int, refresh: bool = True
) -> Iterator[Drift]:
    """Yield each stack's drift once known. Repairs nothing; a tenant that can't be examined has a `problem`.

    Without `refresh`, only preview: change nothing, not even the state. A refresh alone would report each difference
    once only, because it writes it into the state.
    """

    stacks = TenantStacks(engine, cells, default_catalog())

    def examine(state: DesiredState) -> Drift:
        spec = stacks.spec(state)
        found = _refreshed(engine, spec) if refresh else ()
        drift = Drift(tenant=state.cliente_id, cell=state.cell, found=found, pending=_changes(engine.preview(spec)))
        declared = stacks.declared(state) if refresh else None
        if declared is None:
            return drift
        broker = stacks.broker(state)
        undeclared = find_undeclared(broker, vhost_of(state), declared)
        return replace(drift, found=(*found, *stacks.changed_logins(state, broker)), undeclared=undeclared)

    def one(state: DesiredState) -> Drift:
        try:
            return examine(state)
        except Exception as error:  # noqa: BLE001  one tenant's failure must not hide the others' drift
            return Drift(tenant=state.cliente_id, cell=state.cell, problem=failure_of(error))

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="fleet")
    try:
        for done in as_completed([pool.submit(one, state) for state in states]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _refreshed(engine: Engine, spec: StackSpec) -> tuple[Step, ...]:
    """Return what a refresh finds. It asks at the addresses in the state: after a move, nobody answers there."""
    try:
        return _changes(engine.refresh(spec))
    except EngineFailed as error:
        moved = [step.name for step in _changes(engine.preview(spec)) if step.type.startswith("pulumi:providers:")]
        if not moved:
            raise
        raise EngineFailed(
            f"{' and '.join(moved)}: the platform has another address or login than at this tenant's last run, and "
            "nothing can be read with the old one. Run `kryonix fleet rollout`, and then this again",
            failure=error.failure,
        ) from error


def _changes(summary: Summary) -> tuple[Step, ...]:
    return tuple(step for step in summary.steps if step.op not in ("same", "read", "refresh"))
