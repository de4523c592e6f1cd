"""The fleet's status, drift, placement and rollouts as tables, JSON and progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.progress import Live
from kryonix.cli.output.tables import FOUND, Column, changes_text, responsive_table, step_json, steps_text
from kryonix.engines.events import count_changes
from kryonix.fleet.drift import Drift
from kryonix.fleet.members import Member
from kryonix.fleet.placement import Load, Placement
from kryonix.fleet.waves import Waves
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import Rollout
from kryonix.topology.catalog import size_text
from kryonix.topology.cells import Cells

_MEMBER_COLUMNS = (
    Column("tenant", min_width=14),
    Column("status"),
    Column("managed by", min_width=12, drop_priority=5),
    Column("plan", drop_priority=1),
    Column("cell", min_width=8, drop_priority=3),
    Column("stack", drop_priority=2),
    Column("queues", number=True),
    Column("connections", number=True),
    Column("messages", number=True, drop_priority=4),
    Column("pending", min_width=14),
)
_COLOURS = {"done": "green", "failed": "red", "running": "yellow", "stopped": "red", "incomplete": "yellow"}


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


def print_fleet(view: FleetView, console: Console) -> None:
    """Print the tenants, the cells, stacks without a tenant, and the last rollout."""
    rows = map(_member_row, view.members)
    console.print(responsive_table(f"{len(view.members)} tenant(s)", _MEMBER_COLUMNS, rows, console))
    for name, load in view.loads.items():
        tenants = f"{load.tenants} tenant(s)"
        if load.without_row:
            whose = "the platform's own" + (" or run by hand" if view.strays else "")
            tenants += f", {load.without_row} of them {whose}"
        allowed = f"{load.queues:,} queues, {load.connections:,} connections and {size_text(load.bytes)} allowed"
        problem = f". {_red(load.problem)}" if load.problem else ""
        console.print(f"cell {escape(name)}: {tenants}, {allowed}{problem}", soft_wrap=True)
    if view.strays:
        names = escape(", ".join(view.strays))
        title = f"{len(view.strays)} stack(s) without a tenant in the registry: made by hand, or of an older platform"
        console.print(f"{title}: {names}", soft_wrap=True)
    if view.rollout is not None:
        console.print(_rollout_line(view.rollout), soft_wrap=True)


def _member_row(member: Member) -> list[str]:
    state, use = member.state, member.use
    counts = ["?", "?", "?"] if use is None else [str(use.queues), str(use.connections), f"{use.messages:,}"]
    return [
        state.cliente_id,
        state.stage,
        member.managed_by,
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


def drift_text(found: Sequence[Drift]) -> Table | str:
    """Return the differences per tenant, or that there are none."""
    shown = [drift for drift in found if drift.differs or drift.problem]
    if not shown:
        return f"No drift. {len(found)} tenant(s) match the broker and the registry."
    title = f"{len(shown)} of {len(found)} tenant(s) differ or could not be checked"
    table = _table(title, "tenant", "cell", "changed outside Kryonix", "the next rollout would")
    for drift in shown:
        strange = escape("\n".join(drift.undeclared.lines())) if drift.undeclared else ""
        read = "\n".join(filter(None, (steps_text(drift.found, FOUND), strange)))
        table.add_row(drift.tenant, drift.cell, _red(drift.problem) or read, steps_text(drift.pending))
    return table


def dry_run_json(waves: Waves, found: Mapping[str, Drift]) -> dict[str, Any]:
    tenants = [
        {
            "id": name,
            "cell": found[name].cell,
            "wave": index,
            "changes": count_changes(found[name].pending),
            "steps": [step_json(step) for step in found[name].pending],
            "problem": found[name].problem,
        }
        for index, wave in enumerate(waves)
        for name in wave
    ]
    return {"dry_run": True, "waves": [list(wave) for wave in waves], "tenants": tenants}


def dry_run_table(waves: Waves, found: Mapping[str, Drift]) -> Table:
    """Return the waves and what would change."""
    changing = sum(drift.differs for drift in found.values())
    title = f"dry run: {changing} of {len(found)} tenant(s) would change; nothing was changed"
    table = _table(title, "wave", "tenant", "cell", "would")
    for index, wave in enumerate(waves):
        for name in wave:
            change = _red(found[name].problem) or steps_text(found[name].pending) or "change nothing"
            table.add_row(wave_name(index), name, found[name].cell, change)
    return table


def rollout_json(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout with every tenant."""
    return {
        **asdict(rollout),
        "started_at": rollout.started_at.isoformat(),
        "ended_at": rollout.ended_at and rollout.ended_at.isoformat(),
        "counts": dict(Counter(tenant.status for tenant in rollout.tenants)),
    }


def rollout_table(rollout: Rollout) -> Table:
    """Return the result of every tenant."""
    table = _table(_rollout_line(rollout), "wave", "tenant", "status", "changed", "seconds", "problem")
    for tenant in rollout.tenants:
        colour = _COLOURS.get(tenant.status, "white")
        table.add_row(
            wave_name(tenant.wave),
            tenant.cliente_id,
            f"[{colour}]{tenant.status}[/{colour}]",
            changes_text(tenant.changes) or ("nothing" if tenant.status == "done" else ""),
            "" if tenant.seconds is None else f"{tenant.seconds:.1f}",
            escape(tenant.error),
        )
    return table


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


def _red(problem: str | None) -> str:
    return f"[red]{escape(problem)}[/red]" if problem else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    return table


def _rollout_line(rollout: Rollout) -> str:
    counts = Counter(tenant.status for tenant in rollout.tenants)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"rollout {rollout.id} {rollout.status}: {text or 'no tenants'}"


def wave_name(index: int) -> str:
    return "canaries" if index == 0 else f"wave {index}"


class FleetProgress(Live):
    """The number of finished tenants."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        super().__init__(console, title, counted=True, total=total, completed=done)
        self._title, self._total, self._done = title, total, done

    def advance(self, tenant: str, problem: str = "", title: str | None = None) -> None:
        """Count one tenant; thread-safe."""
        self._done += 1
        if problem:
            self._console.print(f"[red]failed[/red] {escape(tenant)}: {escape(problem)}", soft_wrap=True)
        title, tenant = title or self._title, escape(tenant)
        line = f"{title}: {self._done} of {self._total} tenants, last {tenant}"
        self.update(f"{title}: {tenant}", line, completed=self._done)
