"""What differs from what the stacks have made: changed by hand, or not yet rolled out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kryonix.engines.deployer import Deployer
from kryonix.engines.events import Step, Summary
from kryonix.engines.spec import StackSpec
from kryonix.fleet.rollout import failure_of
from kryonix.rabbitmq.broker import Broker, password_step
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.specs import spec_for, tenant_of, what_is_sold
from kryonix.tenants.undeclared import Undeclared, declared_vhosts, find_undeclared
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cells

__all__ = ["Drift", "find_drift", "preview_tenants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How one tenant's world differs.

    `found` is what refresh has just read to be otherwise than it was left. `pending` is what the next rollout would
    change, which has `found` in it, and what was found before and is not mended, and what is new in the program.
    `undeclared` is what is in the tenant's vhost and in no stack.
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
    deployer: Deployer,
    cells: Cells,
    states: Iterable[DesiredState],
    *,
    concurrency: int,
    on_tenant: Callable[[Drift], None] = lambda drift: None,
) -> list[Drift]:
    """Refresh the stacks, and ask what `up` would do. Nothing is mended; what can't be asked is a problem of its own.

    Refresh alone would find a difference once: it takes it into the state, and the next one has nothing to tell.
    """

    def examine(state: DesiredState) -> Drift:
        spec = spec_for(state, cells, sold=what_is_sold(state, deployer, default_catalog()))
        found = _changes(deployer.refresh(spec))
        pending = _changes(deployer.preview(spec))
        vhost = tenant_of(state).names.vhost
        declared = declared_vhosts(deployer.export(spec)).get(vhost)
        if declared is None:
            return Drift(tenant=state.cliente_id, cell=state.cell, found=found, pending=pending)
        broker = Broker(deployer.outputs(StackSpec(name=cells.cell(state.cell).stack)))
        return Drift(
            tenant=state.cliente_id,
            cell=state.cell,
            found=(*found, *_changed_login(broker, state, deployer.outputs(spec))),
            pending=pending,
            undeclared=find_undeclared(broker, vhost, declared),
        )

    return list(_each(examine, states, concurrency, on_tenant))


def preview_tenants(
    deployer: Deployer,
    cells: Cells,
    states: Iterable[DesiredState],
    *,
    concurrency: int,
    on_tenant: Callable[[Drift], None] = lambda drift: None,
) -> list[Drift]:
    """Only ask what `up` would do: changes nothing, not the state either."""

    def examine(state: DesiredState) -> Drift:
        spec = spec_for(state, cells, sold=what_is_sold(state, deployer, default_catalog()))
        pending = _changes(deployer.preview(spec))
        return Drift(tenant=state.cliente_id, cell=state.cell, pending=pending)

    return list(_each(examine, states, concurrency, on_tenant))


def _each(
    examine: Callable[[DesiredState], Drift],
    states: Iterable[DesiredState],
    concurrency: int,
    on_tenant: Callable[[Drift], None],
) -> Iterator[Drift]:
    def one(state: DesiredState) -> Drift:
        try:
            drift = examine(state)
        except Exception as error:  # noqa: BLE001  one tenant's failure hides nothing of the others'
            drift = Drift(tenant=state.cliente_id, cell=state.cell, problem=failure_of(error))
        on_tenant(drift)
        return drift

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="fleet")
    try:
        yield from pool.map(one, states)
    finally:
        pool.shutdown(cancel_futures=True)


def _changed_login(broker: Broker, state: DesiredState, outputs: Mapping[str, Any]) -> list[Step]:
    """Passwords changed by hand, which no engine reads back."""
    made = outputs.get("tenants", {}).get(state.cliente_id)
    if not made:
        return []
    return [password_step(user) for user in broker.with_other_password(str(made["username"]), str(made["password"]))]


def _changes(summary: Summary) -> tuple[Step, ...]:
    return tuple(step for step in summary.steps if step.op not in ("same", "read", "refresh"))
