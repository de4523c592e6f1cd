"""The fleet shown: its status, what differs, where there is room, and a rollout that has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.fleet.progress import wave_name
from kryonix.cli.progress import FOUND
from kryonix.cli.tables import Column, fitted
from kryonix.engines.events import Op, Step, count_changes
from kryonix.fleet.drift import Drift
from kryonix.fleet.members import Member
from kryonix.fleet.placement import Load, Placement
from kryonix.fleet.waves import Waves
from kryonix.registry.rollouts import Rollout
from kryonix.topology.catalog import size_text
from kryonix.topology.cells import Cells

__all__ = [
    "FleetView",
    "drift_json",
    "drift_table",
    "dry_run_json",
    "dry_run_table",
    "fleet_json",
    "fleet_tables",
    "placement_json",
    "placement_lines",
    "rollout_json",
    "rollout_tables",
    "what_is_left",
]

_SHOWN_STEPS = 20
_MEMBER_COLUMNS = (
    Column("tenant", folds=14),
    Column("status"),
    Column("plan", leaves=1),
    Column("cell", folds=8, leaves=3),
    Column("stack", leaves=2),
    Column("queues", number=True),
    Column("connections", number=True),
    Column("messages", number=True, leaves=4),
    Column("to come", folds=14),
)
_COLOURS = {"done": "green", "failed": "red", "running": "yellow", "stopped": "red", "incomplete": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All that is shown of a fleet."""

    members: Sequence[Member]
    strays: Sequence[str]
    cells: Cells
    loads: Mapping[str, Load]
    rollout: Rollout | None


def fleet_json(view: FleetView) -> dict[str, Any]:
    """Status as plain values, without a secret."""
    return {
        "tenants": [_member_json(member) for member in view.members],
        "cells": [
            {"name": name, **cell.model_dump(), **asdict(view.loads.get(name, Load()))}
            for name, cell in view.cells.cells.items()
        ],
        "stacks_without_tenant": list(view.strays),
        "rollout": None if view.rollout is None else rollout_json(view.rollout),
    }


def _member_json(member: Member) -> dict[str, Any]:
    state, use = member.state, member.use
    return {
        "id": state.cliente_id,
        "status": state.stage,
        "plan": state.plan,
        "modules": list(state.modules),
        "cell": state.cell,
        "vhost": member.vhost,
        "stack": "present" if member.stack else "absent",
        "converged": state.converged,
        "queues": {"now": use and use.queues, "planned": member.planned_queues, "allowed": member.max_queues},
        "connections": {"now": use and use.connections, "allowed": member.max_connections},
        "messages": use and use.messages,
        "pending": list(member.pending),
    }


def fleet_tables(view: FleetView, console: Console) -> None:
    """Print the tenants, the cells, and what else is to be known."""
    rows = map(_member_row, view.members)
    console.print(fitted(f"{len(view.members)} tenant(s)", _MEMBER_COLUMNS, rows, console))
    for name, load in view.loads.items():
        tenants = _tenants(load, by_hand=bool(view.strays))
        counts = (
            f"{tenants}, {load.queues:,} queues, {load.connections:,} connections and {size_text(load.bytes)} allowed"
        )
        problem = f". [red]{escape(load.problem)}[/red]" if load.problem else ""
        console.print(f"cell {escape(name)}: {counts}{problem}", soft_wrap=True)
    if view.strays:
        names = ", ".join(view.strays)
        console.print(
            f"{len(view.strays)} stack(s) without a tenant's row, run by hand: {escape(names)}", soft_wrap=True
        )
    if view.rollout is not None:
        console.print(_rollout_line(view.rollout), soft_wrap=True)


def _tenants(load: Load, *, by_hand: bool) -> str:
    """How many tenants a cell carries, and how many of them are none of the fleet's. A stray stack is some cell's."""
    if not load.without_row:
        return f"{load.tenants} tenant(s)"
    whose = "the platform's own" + (" or run by hand" if by_hand else "")
    return f"{load.tenants} tenant(s), of which {load.without_row} are {whose}"


def _member_row(member: Member) -> list[str]:
    state, use = member.state, member.use
    counts = ["?", "?", "?"] if use is None else [str(use.queues), str(use.connections), f"{use.messages:,}"]
    return [
        state.cliente_id,
        state.stage,
        state.plan,
        state.cell,
        "present" if member.stack else "[yellow]absent[/yellow]",
        f"{counts[0]} of {member.max_queues}",
        f"{counts[1]} of {member.max_connections}",
        counts[2],
        escape("; ".join(member.pending)),
    ]


def drift_json(found: Sequence[Drift]) -> dict[str, Any]:
    return {
        "tenants": [
            {
                "id": drift.tenant,
                "cell": drift.cell,
                "differs": drift.differs,
                "found": [_step_json(step) for step in drift.found],
                "pending": [_step_json(step) for step in drift.pending],
                "undeclared": drift.undeclared.as_json() if drift.undeclared else None,
                "problem": drift.problem,
            }
            for drift in found
        ],
        "differing": sum(drift.differs for drift in found),
        "not_examined": sum(bool(drift.problem) for drift in found),
    }


def _step_json(step: Step) -> dict[str, Any]:
    return {"op": step.op, "type": step.type, "name": step.name, "changed": list(step.changed)}


def drift_table(found: Sequence[Drift], console: Console) -> None:
    """Print what differs, per tenant; that nothing does is said too."""
    shown = [drift for drift in found if drift.differs or drift.problem]
    if not shown:
        console.print(f"No drift: {len(found)} tenant(s) are as they should be, read from broker and registry.")
        return
    table = Table(title=f"{len(shown)} of {len(found)} tenant(s) differ or could not be examined")
    for column in ("tenant", "cell", "read from the world", "the next rollout would"):
        table.add_column(column, overflow="fold")
    for drift in shown:
        problem = f"[red]{escape(drift.problem)}[/red]" if drift.problem else ""
        strange = escape("\n".join(drift.undeclared.lines())) if drift.undeclared else ""
        read = "\n".join(filter(None, (_steps(drift.found, FOUND), strange)))
        table.add_row(drift.tenant, drift.cell, problem or read, _steps(drift.pending))
    console.print(table)


def _steps(steps: Sequence[Step], words: Mapping[Op, str] | None = None) -> str:
    lines = [
        f"{(words or {}).get(step.op, step.op)} {step.name}" + (f" ({', '.join(step.changed)})" if step.changed else "")
        for step in steps[:_SHOWN_STEPS]
    ]
    more = [f"and {len(steps) - _SHOWN_STEPS} more"] if len(steps) > _SHOWN_STEPS else []
    return escape("\n".join([*lines, *more]))


def dry_run_json(waves: Waves, found: Sequence[Drift]) -> dict[str, Any]:
    by_name = {drift.tenant: drift for drift in found}
    tenants = [
        {
            "id": name,
            "cell": by_name[name].cell,
            "wave": index,
            "changes": count_changes(by_name[name].pending),
            "steps": [_step_json(step) for step in by_name[name].pending],
            "problem": by_name[name].problem,
        }
        for index, wave in enumerate(waves)
        for name in wave
    ]
    return {"dry_run": True, "waves": [list(wave) for wave in waves], "tenants": tenants}


def dry_run_table(waves: Waves, found: Sequence[Drift], console: Console) -> None:
    """Print the waves, and what would change."""
    by_name = {drift.tenant: drift for drift in found}
    changing = sum(drift.differs for drift in found)
    table = Table(title=f"dry run: {changing} of {len(found)} tenant(s) would change; nothing was changed")
    for column in ("wave", "tenant", "cell", "would"):
        table.add_column(column, overflow="fold")
    for index, wave in enumerate(waves):
        for name in wave:
            drift = by_name[name]
            problem = f"[red]{escape(drift.problem)}[/red]" if drift.problem else ""
            table.add_row(wave_name(index), name, drift.cell, problem or _steps(drift.pending) or "change nothing")
    console.print(table)


def rollout_json(rollout: Rollout) -> dict[str, Any]:
    """A rollout as it stands, with every tenant."""
    ended = None if rollout.ended_at is None else rollout.ended_at.isoformat()
    return {
        "id": rollout.id,
        "status": rollout.status,
        "concurrency": rollout.concurrency,
        "failure_budget": rollout.failure_budget,
        "holder": rollout.holder,
        "started_at": rollout.started_at.isoformat(),
        "ended_at": ended,
        "counts": dict(Counter(tenant.status for tenant in rollout.tenants)),
        "tenants": [asdict(tenant) for tenant in rollout.tenants],
    }


def rollout_tables(rollout: Rollout, console: Console) -> None:
    """Print what became of every tenant."""
    table = Table(title=_rollout_line(rollout))
    for column in ("wave", "tenant", "status", "changed", "seconds", "problem"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for tenant in rollout.tenants:
        colour = _COLOURS.get(tenant.status, "white")
        changes = ", ".join(
            f"{count} {op}" for op, count in sorted(tenant.changes.items()) if op not in ("same", "read")
        )
        table.add_row(
            wave_name(tenant.wave),
            tenant.cliente_id,
            f"[{colour}]{tenant.status}[/{colour}]",
            changes or ("nothing" if tenant.status == "done" else ""),
            "" if tenant.seconds is None else f"{tenant.seconds:.1f}",
            escape(tenant.error),
        )
    console.print(table)


def what_is_left(rollout: Rollout) -> str:
    """Why a rollout did not end well, and what to do."""
    counts = Counter(tenant.status for tenant in rollout.tenants)
    canary = any(tenant.wave == 0 and tenant.status == "failed" for tenant in rollout.tenants)
    if rollout.status == "stopped":
        cause = "a canary failed" if canary else f"more failed than the budget of {rollout.failure_budget} allows"
        said = f"[bold red]stopped:[/bold red] {cause}; {counts['failed']} failed, {counts['pending']} were not touched"
    else:
        said = f"{counts['failed']} failed, within the budget of {rollout.failure_budget}"
    return f"{said}. Mend the cause, then `kryonix fleet rollout --resume` goes on"


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


def placement_lines(placement: Placement, console: Console) -> None:
    """Print the chosen cell, and what was said of each, with the new tenant in it."""
    console.print(f"[bold]{escape(placement.cell)}[/bold] has the most room left with this tenant in it:")
    for verdict in placement.verdicts:
        console.print(f"  {escape(str(verdict))}", soft_wrap=True)


def _rollout_line(rollout: Rollout) -> str:
    counts = Counter(tenant.status for tenant in rollout.tenants)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"rollout {rollout.id} {rollout.status}: {said or 'no tenants'}"
