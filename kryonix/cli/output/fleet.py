"""The fleet's status, drift, placement and rollouts as tables, JSON and progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kryonix.cli.output.tables import FOUND, Column, changes_text, responsive_table, step_json, steps_text
from kryonix.engines.events import count_changes
from kryonix.fleet.drift import Drift
from kryonix.fleet.members import Member
from kryonix.fleet.placement import Load, Placement
from kryonix.fleet.waves import Plan
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import Rollout, RolloutTenant
from kryonix.topology.catalog import size_text
from kryonix.topology.cells import Cells

_COLOURS: Final[Mapping[str, str]] = {"done": "green", "failed": "red", "running": "yellow"}
_MEMBER_COLUMNS: Final[tuple[Column[Member], ...]] = (
    Column("tenant", lambda member: member.state.cliente_id, min_width=14),
    Column("status", lambda member: member.state.stage),
    Column("managed by", lambda member: member.managed_by, min_width=12, drop_priority=5),
    Column("plan", lambda member: member.state.plan, drop_priority=1),
    Column("cell", lambda member: member.state.cell, min_width=8, drop_priority=3),
    Column("stack", lambda member: "present" if member.stack else Text("absent", "yellow"), drop_priority=2),
    Column("queues", lambda member: _of(member, "queues"), number=True),
    Column("connections", lambda member: _of(member, "connections"), number=True),
    Column("messages", lambda member: member.use.messages if member.use else None, number=True, drop_priority=4),
    Column("pending", lambda member: "; ".join(member.pending), min_width=14),
)
_DRIFT_COLUMNS: Final[tuple[Column[Drift], ...]] = (
    Column("tenant", lambda drift: drift.tenant, min_width=14),
    Column("cell", lambda drift: drift.cell, min_width=8),
    Column("changed outside Kryonix", lambda drift: _problem(drift) or _changed_outside(drift), min_width=14),
    Column("the next rollout would", lambda drift: steps_text(drift.pending), min_width=14),
)
_DRY_RUN_COLUMNS: Final[tuple[Column[tuple[int | None, Drift]], ...]] = (
    Column("wave", lambda planned: wave_name(planned[0])),
    Column("tenant", lambda planned: planned[1].tenant, min_width=14),
    Column("cell", lambda planned: planned[1].cell, min_width=8),
    Column(
        "would",
        lambda planned: (
            "unchanged"
            if planned[0] is None
            else _problem(planned[1]) or steps_text(planned[1].pending) or "change nothing"
        ),
        min_width=14,
    ),
)
_ROLLOUT_COLUMNS: Final[tuple[Column[RolloutTenant], ...]] = (
    Column("wave", lambda tenant: wave_name(tenant.wave)),
    Column("tenant", lambda tenant: tenant.cliente_id, min_width=14),
    Column("status", lambda tenant: Text(tenant.status, _COLOURS.get(tenant.status, "white"))),
    Column(
        "changed",
        lambda tenant: changes_text(tenant.changes) or ("nothing" if tenant.status == "done" else ""),
        min_width=10,
    ),
    Column("seconds", lambda tenant: "" if tenant.seconds is None else f"{tenant.seconds:.1f}", number=True),
    Column("problem", lambda tenant: tenant.error, min_width=14),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Everything that `fleet status` shows."""

    members: Sequence[Member]
    strays: Sequence[str]
    cells: Cells
    loads: Mapping[str, Load]
    rollout: Rollout | None


def fleet_json(view: FleetView) -> dict[str, Any]:
    """Return the status without secrets."""
    return {
        "tenants": [_member_json(member) for member in view.members],
        "cells": [
            {"name": name, **cell.model_dump(), **asdict(view.loads.get(name, Load()))}
            for name, cell in view.cells.cells.items()
        ],
        "stacks_without_tenant": list(view.strays),
        "rollout": None if view.rollout is None else rollout_json(view.rollout),
    }


def state_json(state: DesiredState) -> dict[str, Any]:
    """Return the fields that every list of tenants has in common."""
    return {
        "id": state.cliente_id,
        "status": state.stage,
        "plan": state.plan,
        "modules": list(state.modules),
        "cell": state.cell,
        "auth": state.auth,
        "notify": None if state.notify is None else state.notify.masked(),
    }


def _member_json(member: Member) -> dict[str, Any]:
    state, use = member.state, member.use
    return {
        **state_json(state),
        "managed_by": member.managed_by,
        "vhost": member.vhost,
        "stack": "present" if member.stack else "absent",
        "converged": state.converged,
        "queues": {"now": use and use.queues, "planned": member.planned_queues, "allowed": member.max_queues},
        "connections": {"now": use and use.connections, "allowed": member.max_connections},
        "messages": use and use.messages,
        "pending": list(member.pending),
    }


def fleet_report(view: FleetView, console: Console) -> Iterator[str | Table]:
    """Yield the tenants, the cells, stacks without a tenant, and the last rollout."""
    yield responsive_table(f"{len(view.members)} tenant(s)", _MEMBER_COLUMNS, view.members, console)
    for name, load in view.loads.items():
        tenants = f"{load.tenants} tenant(s)"
        if load.without_row:
            whose = "the platform's own" + (" or run by hand" if view.strays else "")
            tenants += f", {load.without_row} of them {whose}"
        allowed = f"{load.queues:,} queues, {load.connections:,} connections and {size_text(load.bytes)} allowed"
        problem = f". [red]{escape(load.problem)}[/red]" if load.problem else ""
        yield f"cell {escape(name)}: {tenants}, {allowed}{problem}"
    if view.strays:
        names = escape(", ".join(view.strays))
        title = f"{len(view.strays)} stack(s) without a tenant in the registry: made by hand, or of an older platform"
        yield f"{title}: {names}"
    if view.rollout is not None:
        yield _rollout_line(view.rollout)


def _of(member: Member, figure: str) -> str:
    now = getattr(member.use, figure) if member.use else "?"
    return f"{now} of {getattr(member, f'max_{figure}')}"


def drift_json(found: Sequence[Drift]) -> dict[str, Any]:
    return {
        "tenants": [
            {
                "id": drift.tenant,
                "cell": drift.cell,
                "differs": drift.differs,
                "found": [step_json(step) for step in drift.found],
                "pending": [step_json(step) for step in drift.pending],
                "undeclared": drift.undeclared.as_json() if drift.undeclared else None,
                "problem": drift.problem,
            }
            for drift in found
        ],
        "differing": sum(drift.differs for drift in found),
        "not_examined": sum(bool(drift.problem) for drift in found),
    }


def drift_text(found: Sequence[Drift], console: Console) -> Table | str:
    """Return the differences per tenant, or that there are none."""
    shown = [drift for drift in found if drift.differs or drift.problem]
    if not shown:
        return f"No drift. {len(found)} tenant(s) match the broker and the registry."
    title = f"{len(shown)} of {len(found)} tenant(s) differ or could not be checked"
    return responsive_table(title, _DRIFT_COLUMNS, shown, console)


def _changed_outside(drift: Drift) -> str:
    strange = drift.undeclared.lines() if drift.undeclared else ()
    return "\n".join(filter(None, (steps_text(drift.found, FOUND), *strange)))


def _problem(drift: Drift) -> Text | None:
    return Text(drift.problem, "red") if drift.problem else None


def dry_run_json(plan: Plan, found: Mapping[str, Drift]) -> dict[str, Any]:
    tenants = [
        {
            "id": name,
            "cell": found[name].cell,
            "wave": wave,
            "status": "unchanged" if wave is None else "pending",
            "changes": count_changes(found[name].pending),
            "steps": [step_json(step) for step in found[name].pending],
            "problem": found[name].problem,
        }
        for wave, name in _planned(plan)
    ]
    return {
        "dry_run": True,
        "waves": [list(wave) for wave in plan.waves],
        "tenants": tenants,
        "counts": dict(Counter(tenant["status"] for tenant in tenants)),
    }


def dry_run_table(plan: Plan, found: Mapping[str, Drift], console: Console) -> Table:
    """Return the waves and what would change."""
    changing = sum(drift.differs for drift in found.values())
    title = f"dry run: {changing} of {len(found)} tenant(s) would change; nothing was changed"
    planned = ((wave, found[name]) for wave, name in _planned(plan))
    return responsive_table(title, _DRY_RUN_COLUMNS, planned, console)


def _planned(plan: Plan) -> Iterator[tuple[int | None, str]]:
    """Yield every tenant with its wave, None for one that is left out."""
    yield from ((index, name) for index, wave in enumerate(plan.waves) for name in wave)
    yield from ((None, name) for name in plan.unchanged)


def rollout_json(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout with every tenant."""
    return {
        **asdict(rollout),
        "counts": dict(Counter(tenant.status for tenant in rollout.tenants)),
    }


def rollout_table(rollout: Rollout, console: Console) -> Table:
    """Return the result of every tenant."""
    return responsive_table(_rollout_line(rollout), _ROLLOUT_COLUMNS, rollout.tenants, console)


def failure_text(rollout: Rollout) -> str:
    """Return why a rollout failed, and what to do."""
    counts = Counter(tenant.status for tenant in rollout.tenants)
    canary = any(tenant.wave == 0 and tenant.status == "failed" for tenant in rollout.tenants)
    if rollout.status == "stopped":
        cause = "a canary failed" if canary else f"more tenants failed than the budget of {rollout.failure_budget}"
        text = f"[bold red]stopped:[/bold red] {cause}; {counts['failed']} failed, {counts['pending']} not started"
    else:
        text = f"{counts['failed']} failed, within the budget of {rollout.failure_budget}"
    return f"{text}. Fix the cause, then run `kryonix fleet rollout --resume`"


def placement_json(placement: Placement) -> dict[str, Any]:
    cells = [
        {
            "cell": verdict.cell,
            "room": verdict.refusal is None,
            "fullness": round(verdict.fullness, 4),
            "shares": {share.noun: {"taken": share.taken, "most": share.most} for share in verdict.shares},
            "refusal": verdict.refusal,
        }
        for verdict in placement.verdicts
    ]
    return {"cell": placement.cell, "cells": cells}


def placement_text(placement: Placement) -> str:
    """Return the suggested cell, and the load of each cell with the new tenant."""
    verdicts = "".join(f"\n  {escape(str(verdict))}" for verdict in placement.verdicts)
    return f"[bold]{escape(placement.cell)}[/bold] has the most free capacity with this tenant:{verdicts}"


def _rollout_line(rollout: Rollout) -> str:
    counts = Counter(tenant.status for tenant in rollout.tenants)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"rollout {rollout.id} {rollout.status}: {text or 'no tenants'}"


def wave_name(index: int | None) -> str:
    return "" if index is None else "canaries" if index == 0 else f"wave {index}"
