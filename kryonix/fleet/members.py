"""The fleet as it stands: what each tenant is to be, whether its stack is there, and what it takes of its plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from kryonix.fleet.cell_use import VhostUse
from kryonix.fleet.placement import Load, load_of
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.specs import tenant_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names, tenant_of_vhost

__all__ = ["Member", "Uses", "cell_loads", "fleet_members", "strays"]

Uses = Mapping[str, Mapping[str, VhostUse] | None]
"""What each cell's broker carries by vhost; None where it does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One tenant. `use` is what its vhost has now, None where the cell's broker does not answer; `stack` says whether
    the tenant's stack has state. `planned_queues` is what its modules make; it is 0 where the catalog has no such
    module or plan any more, and `problem` says so."""

    state: DesiredState
    vhost: str
    stack: bool
    use: VhostUse | None
    planned_queues: int
    max_queues: int | None
    max_connections: int | None
    problem: str = ""

    @property
    def pending(self) -> tuple[str, ...]:
        """What is still to happen to it, in words."""
        return tuple(_pending(self))


def fleet_members(
    states: Iterable[DesiredState], stacks: Collection[str], uses: Uses, catalog: Catalog
) -> list[Member]:
    """Every tenant that there is, or that was removed and still has a stack."""
    have = frozenset(stacks)
    return [
        _member(state, Names(state.cliente_id).stack in have, uses, catalog)
        for state in states
        if state.status != "removed" or Names(state.cliente_id).stack in have
    ]


def strays(states: Iterable[DesiredState], stacks: Iterable[str]) -> list[str]:
    """Stacks of tenants without a desired state: somebody runs them by hand, with a config file of their own."""
    known = {Names(state.cliente_id).stack for state in states}
    return sorted(stack for stack in stacks if stack.startswith("tenant-") and stack not in known)


def cell_loads(
    states: Iterable[DesiredState], uses: Uses, problems: Mapping[str, str], catalog: Catalog
) -> dict[str, Load]:
    """What each cell carries: the larger of what its tenants' rows ask for and what its broker has.

    Rows count before their queues are there, so that tenants placed at the same time see each other; the broker's count
    adds what has no row, such as the tenants of the platform's own list.
    """
    promised: dict[str, list[Load]] = defaultdict(list)
    rows: set[str] = set()
    for state in states:
        if state.status != "removed":
            known = not _expanded(state, catalog)[1]
            promised[state.cell].append(load_of(tenant_of(state), catalog) if known else Load(tenants=1))
            rows.add(Names(state.cliente_id).vhost)
    cells = {*promised, *uses, *problems}
    return {cell: _load(promised[cell], uses.get(cell) or {}, rows, problems.get(cell)) for cell in cells}


def _load(promised: list[Load], found: Mapping[str, VhostUse], rows: set[str], problem: str | None) -> Load:
    total = sum(promised, Load(problem=problem))
    others = [vhost for vhost in found if tenant_of_vhost(vhost) is not None and vhost not in rows]
    return Load(
        tenants=total.tenants + len(others),
        without_row=len(others),
        queues=max(total.queues + sum(found[vhost].queues for vhost in others), _queues(found)),
        connections=total.connections + sum(found[vhost].promised_connections for vhost in others),
        bytes=total.bytes + sum(found[vhost].max_bytes for vhost in others),
        problem=problem,
    )


def _queues(found: Mapping[str, VhostUse]) -> int:
    return sum(use.queues for use in found.values())


def _member(state: DesiredState, stack: bool, uses: Uses, catalog: Catalog) -> Member:
    vhost = Names(state.cliente_id).vhost
    topology, problem = _expanded(state, catalog)
    carried = uses.get(state.cell)
    return Member(
        state=state,
        vhost=vhost,
        stack=stack,
        use=None if carried is None else carried.get(vhost, VhostUse()),
        planned_queues=len(topology.queues) if topology else 0,
        max_queues=topology.limits.max_queues if topology else None,
        max_connections=topology.max_connections if topology else None,
        problem=problem,
    )


def _expanded(state: DesiredState, catalog: Catalog) -> tuple[Topology | None, str]:
    unknown = [module for module in state.modules if module not in catalog.modules]
    if state.plan not in catalog.plans:
        return None, f"the catalog has no plan {state.plan!r}"
    if unknown:
        return None, f"the catalog has no module {unknown[0]!r}"
    return expand(tenant_of(state), catalog), ""


def _pending(member: Member) -> Iterator[str]:
    state = member.state
    if member.problem:
        yield member.problem
    if state.status == "removed":
        yield "removal is not finished: the stack is still there"
        return
    if not member.stack:
        yield "the stack has never been made"
    elif not state.converged:
        yield "the last change has not been applied"
    if state.remove_after is not None and state.status == "offboarding":
        yield f"removal after {_moment(state.remove_after)}"
    if state.retiring_until is not None:
        yield f"old credentials end {_moment(state.retiring_until)}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}".rstrip()
