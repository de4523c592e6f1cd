"""Every tenant in a row: its traffic, its wait and its share of the plan, from registry, brokers and Prometheus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kryonix.monitoring.prometheus import Prometheus
from kryonix.monitoring.traffic import Traffic
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import Catalog, Plan

_WAITS: Final = "histogram_quantile(0.95, sum by (le, cliente_id) (rate(kryonix_worker_wait_seconds_bucket[5m])))"

WaitSource = Literal["workers", "estimate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tenant now. `traffic` is None if its broker was not read or has no such vhost."""

    tenant: str
    cell: str
    plan: str
    state: str
    traffic: Traffic | None
    wait_s: float | None = None
    """The workers' 95th percentile, else an estimate; infinite if messages wait and none is delivered."""
    wait_source: WaitSource | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    """Use of each limit of the plan that traffic can fill, 1 for all of it."""
    old: bool = False
    """True if the figures are those of an earlier reading, as the broker does not answer."""

    @property
    def fullest(self) -> tuple[str, float] | None:
        """Return the limit with the largest share in use."""
        return max(self.shares.items(), key=lambda share: share[1], default=None)


def waits_of(prometheus: Prometheus) -> dict[str, float]:
    """Return the 95th percentile of the workers' wait in the last 5 minutes (s), by tenant."""
    found = ((labels.get("cliente_id", ""), value) for labels, value in prometheus.query(_WAITS))
    return {tenant: value for tenant, value in found if not math.isnan(value)}


def overview(
    states: Iterable[DesiredState],
    cells: Mapping[str, Mapping[str, Traffic]],
    old: Iterable[str],
    waits: Mapping[str, float],
    catalog: Catalog,
) -> list[Row]:
    """Return a row per tenant.

    `cells` are the traffic of each cell that was read, by tenant; `old` names those read before, that are away now. A
    tenant whose cell is not known is in the cell that has its vhost.
    """
    stale, known = frozenset(old), list(states)
    rows = [_row(state, _cell_of(state, cells), cells, stale, waits, catalog) for state in known]
    unknown = {tenant: cell for cell, found in cells.items() for tenant in found}
    for state in known:
        unknown.pop(state.cliente_id, None)
    return rows + [_unknown_row(tenant, cell, cells[cell][tenant], cell in stale) for tenant, cell in unknown.items()]


def _unknown_row(tenant: str, cell: str, traffic: Traffic, old: bool) -> Row:
    """Return the row of a vhost whose tenant the registry lacks, or did not tell."""
    wait, source = _wait(traffic, None)
    return Row(tenant=tenant, cell=cell, plan="?", state="?", traffic=traffic, wait_s=wait, wait_source=source, old=old)


def _cell_of(state: DesiredState, cells: Mapping[str, Mapping[str, Traffic]]) -> str:
    if state.cliente_id in cells.get(state.cell, {}):
        return state.cell
    return next((cell for cell, found in cells.items() if state.cliente_id in found), state.cell)


def _row(
    state: DesiredState,
    cell: str,
    cells: Mapping[str, Mapping[str, Traffic]],
    old: frozenset[str],
    waits: Mapping[str, float],
    catalog: Catalog,
) -> Row:
    tenant, plan = state.cliente_id, catalog.plans.get(state.plan)
    traffic = cells.get(cell, {}).get(tenant)
    wait, source = _wait(traffic, waits.get(tenant))
    return Row(
        tenant=tenant,
        cell=cell,
        plan=state.plan,
        state="no vhost" if traffic is None and cell in cells else state.stage,
        traffic=traffic,
        wait_s=wait,
        wait_source=source,
        shares=_shares(traffic, plan) if traffic and plan else {},
        old=cell in old,
    )


def _wait(traffic: Traffic | None, measured: float | None) -> tuple[float | None, WaitSource | None]:
    if measured is not None:
        return measured, "workers"
    if traffic is None:
        return None, None
    estimate = traffic.estimated_wait_s
    return math.inf if estimate is None else estimate, "estimate"


def _shares(traffic: Traffic, plan: Plan) -> dict[str, float]:
    # Not of the queues: their number is that of the modules, and does not change with the traffic.
    return {
        "depth": traffic.deepest / plan.scaling.max_queue_depth,
        "connections": traffic.connections / plan.limits.max_connections,
        "channels": traffic.channels / plan.limits.max_channels,
    }


def _of_traffic(name: str) -> Callable[[Row], Any]:
    return lambda row: None if row.traffic is None else getattr(row.traffic, name)


SORTS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "depth": _of_traffic("depth"),
    "in": _of_traffic("publish_rate"),
    "out": _of_traffic("deliver_rate"),
    "wait": lambda row: row.wait_s,
    "dead": _of_traffic("dead"),
    "consumers": _of_traffic("consumers"),
    "connections": _of_traffic("connections"),
    "limit": lambda row: row.fullest and row.fullest[1],
    "tenant": lambda row: row.tenant,
}
"""What rows can be sorted by: figures the largest first, names from A to Z."""


def arranged(rows: Iterable[Row], sort: str, reverse: bool, wanted: str) -> list[Row]:
    """Return the rows with a text in their tenant, cell, plan or state, sorted. Unknown figures come last."""
    text, value = wanted.strip().lower(), SORTS[sort]
    shown = [row for row in rows if text in f"{row.tenant}\n{row.cell}\n{row.plan}\n{row.state}".lower()]
    known = [row for row in shown if value(row) is not None]
    down = (sort != "tenant") != reverse
    known.sort(key=lambda row: row.tenant)
    known.sort(key=value, reverse=down)
    return [*known, *sorted((row for row in shown if value(row) is None), key=lambda row: row.tenant)]


def row_json(row: Row) -> dict[str, Any]:
    """Return a row; a figure that was not read is null, and so is an infinite wait."""
    traffic = row.traffic
    finite = row.wait_s is not None and math.isfinite(row.wait_s)
    figures: Sequence[str] = ("depth", "ready", "deepest", "dead", "queues", "consumers", "connections", "channels")
    return {
        "tenant": row.tenant,
        "cell": row.cell,
        "plan": row.plan,
        "state": row.state,
        "old": row.old,
        **{name: getattr(traffic, name, None) for name in figures},
        "in_per_s": traffic and traffic.publish_rate,
        "out_per_s": traffic and traffic.deliver_rate,
        "wait_s": row.wait_s if finite else None,
        "wait_source": row.wait_source,
        "shares": {name: round(share, 4) for name, share in row.shares.items()},
    }
