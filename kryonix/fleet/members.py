"""Members of the fleet: each tenant's desired state, stack and usage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from kryonix.fleet.cell_use import VhostUse
from kryonix.fleet.placement import Load, load_of
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.rows import STATUS_NAMES, TenantRow, fetch_configurations
from kryonix.tenants.specs import tenant_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names, tenant_of_vhost
from kryonix.topology.notify import Notify

Uses = Mapping[str, Mapping[str, VhostUse] | None]
"""Usage by cell and vhost; None for a cell whose broker does not answer."""

OWN_STACK: Final = "own stack"
LIST: Final = "tenants.yaml"
ELSEWHERE: Final = "another project"
"""What manages a tenant, besides the config file of a stack."""

UNKNOWN_CELL: Final = "unknown"
_MOMENT: Final = "%Y-%m-%d %H:%M %Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A tenant of the fleet.

    `use` is its vhost's usage, None if the broker does not answer; `stack` is True if its stack has state.
    `planned_queues` is 0, with a `problem`, if the catalog no longer has a module or the plan.
    """

    state: DesiredState
    vhost: str
    stack: bool
    use: VhostUse | None
    planned_queues: int
    max_queues: int | None
    max_connections: int | None
    problem: str = ""
    managed_by: str = OWN_STACK

    @property
    def pending(self) -> tuple[str, ...]:
        """Describe what has yet to happen to the tenant."""
        state = self.state
        found = [self.problem] if self.problem else []
        if state.status == "removed":
            return (*found, "removal not finished: the stack still exists")
        if not self.stack:
            found.append("stack not created yet")
        elif not state.converged:
            found.append("last change not applied")
        if state.remove_after is not None and state.status == "offboarding":
            found.append(f"removal after {state.remove_after:{_MOMENT}}".rstrip())
        if state.retiring_until is not None:
            found.append(f"previous credentials end {state.retiring_until:{_MOMENT}}".rstrip())
        return tuple(found)


def registered_tenants(dsn: str) -> list[DesiredState]:
    """Return the registry's tenants, however they are managed, without removed ones. Raises RegistryError.

    The cell of a tenant without a stack of its own is `unknown`.
    """
    with connect(dsn) as connection:
        states, rows = fetch_desired_states(connection), fetch_configurations(connection)
    others = (state for state, _ in other_tenants(rows, states, {}, ()).values())
    return [*(state for state in states if state.stage != "removed"), *others]


def other_tenants(
    rows: Iterable[TenantRow], states: Iterable[DesiredState], cells: Mapping[str, str], stacks: Collection[str]
) -> dict[str, tuple[DesiredState, str]]:
    """Return the registry's tenants without a desired state, as one, with the file that declares them.

    `cells` are the cells of the tenants in a platform's tenants.yaml.
    """
    found = {}
    known = {state.cliente_id for state in states if state.stage != "removed"}
    for row in rows:
        if row.cliente_id in known or row.status == "removido":
            continue
        stack, listed = Names(row.cliente_id).stack, row.cliente_id in cells
        state = DesiredState(
            cliente_id=row.cliente_id,
            modules=row.modulos,
            plan=row.plano,
            status="suspended" if row.status == STATUS_NAMES["suspended"] else "active",
            cell=cells.get(row.cliente_id, UNKNOWN_CELL),
            applied_at=datetime.max,
            updated_at=datetime.max,
            auth="certificate" if row.password_hash == "" else "password",
            notify=Notify.stored(row.notify),
        )
        found[row.cliente_id] = state, LIST if listed else f"Pulumi.{stack}.yaml" if stack in stacks else ELSEWHERE
    return found


def fleet_members(
    states: Iterable[DesiredState],
    stacks: Collection[str],
    uses: Uses,
    catalog: Catalog,
    managed_by: Mapping[str, str],
) -> list[Member]:
    """Return all tenants, and removed ones whose stack still exists.

    `managed_by` has those without a stack of their own. A cell that is not known is the one whose broker has the vhost.
    """
    members, present = [], frozenset(stacks)
    for state in states:
        names, (topology, problem) = Names(state.cliente_id), expanded(state, catalog)
        manager = managed_by.get(state.cliente_id, OWN_STACK)
        if state.cell == UNKNOWN_CELL:
            cells = (cell for cell, use in uses.items() if names.vhost in (use or ()))
            state = replace(state, cell=next(cells, state.cell))
        found = uses.get(state.cell)
        stack = names.stack in present or manager != OWN_STACK
        if state.status == "removed" and not stack:
            continue
        members.append(
            Member(
                state=state,
                vhost=names.vhost,
                stack=stack,
                use=None if found is None else found.get(names.vhost, VhostUse()),
                planned_queues=len(topology.queues) if topology else 0,
                max_queues=topology.limits.max_queues if topology else None,
                max_connections=topology.max_connections if topology else None,
                problem=problem,
                managed_by=manager,
            )
        )
    return members


def strays(states: Iterable[DesiredState], stacks: Iterable[str]) -> list[str]:
    """Return tenant stacks without one of these tenants."""
    known = {Names(state.cliente_id).stack for state in states}
    return sorted(stack for stack in stacks if stack.startswith("tenant-") and stack not in known)


def cell_loads(
    states: Iterable[DesiredState], uses: Uses, problems: Mapping[str, str], catalog: Catalog
) -> dict[str, Load]:
    """Return each cell's load: the larger of what its tenants' rows promise and what its broker has.

    Rows count before their queues exist, so concurrent placements see each other. The broker's count adds tenants
    without a row, such as those of tenants.yaml.
    """
    promised: dict[str, list[Load]] = defaultdict(list)
    rows: set[str] = set()
    for state in states:
        if state.status != "removed":
            known = not expanded(state, catalog)[1]
            promised[state.cell].append(load_of(tenant_of(state), catalog) if known else Load(tenants=1))
            rows.add(Names(state.cliente_id).vhost)
    cells = {*promised, *uses, *problems}
    return {cell: _load(promised[cell], uses.get(cell) or {}, rows, problems.get(cell)) for cell in cells}


def _load(promised: list[Load], found: Mapping[str, VhostUse], rows: set[str], problem: str | None) -> Load:
    others = [use for vhost, use in found.items() if tenant_of_vhost(vhost) is not None and vhost not in rows]
    loads = [
        Load(tenants=1, without_row=1, queues=use.queues, connections=use.promised_connections, bytes=use.max_bytes)
        for use in others
    ]
    total = sum([*promised, *loads], Load(problem=problem))
    return replace(total, queues=max(total.queues, sum(use.queues for use in found.values())))


def expanded(state: DesiredState, catalog: Catalog) -> tuple[Topology | None, str]:
    """Return what a tenant should have; None, with the problem, if the catalog lacks its plan or a module."""
    unknown = [module for module in state.modules if module not in catalog.modules]
    if state.plan not in catalog.plans:
        return None, f"the catalog has no plan {state.plan!r}"
    if unknown:
        return None, f"the catalog has no module {unknown[0]!r}"
    return expand(tenant_of(state), catalog), ""
