"""A review as tables on a terminal, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from kryonix.operations.console import err, out
from kryonix.operations.plan import changes_table, write_json
from kryonix.review.differences import TenantDifference
from kryonix.review.guardrails import Finding
from kryonix.review.report import Group, Review
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant

__all__ = ["print_tables", "write_review"]


def print_tables(review: Review) -> None:
    """The tenants that are touched, every object that differs, and what holds the change back."""
    for note in review.notes:
        err.print(f"note: {escape(note)}", soft_wrap=True)
    if review.differences:
        out.print(_tenants(review.groups))
    changes_table([change for difference in review.differences for change in difference.changes], out)
    if review.judgement is None:
        return
    for finding, entry in review.judgement.accepted:
        err.print(f"accepted: {escape(_told(finding))} ({escape(entry.reason)})", soft_wrap=True)
    for finding in review.judgement.blocking:
        err.print(f"[bold red]held back:[/bold red] {escape(_told(finding))}", soft_wrap=True)


def write_review(review: Review, tenants: Iterable[Tenant], catalog: Catalog) -> None:
    """The plan of every tenant, every change, and the review, as JSON."""
    changes = [change for difference in review.differences for change in difference.changes]
    write_json((expand(tenant, catalog) for tenant in tenants), changes, sys.stdout, _plain(review))


def _tenants(groups: Iterable[Group]) -> Table:
    table = Table(title="What differs, by tenant")
    for name in ("tenant", "", "plan", "queues", "limits", "queues lost"):
        table.add_column(name)
    for group in groups:
        first = group.first
        more = f" and {len(group.tenants) - 1:,} alike" if len(group.tenants) > 1 else ""
        lost = f"[red]{len(first.lost)}[/red]" if first.lost else "none"
        limits = [f"{field.name} {_step(field.before, field.after)}" for field in first.limits if field.differs]
        told = "\n".join(limits) if first.kind == "changed" else ""
        plan, queues = _both(first, lambda topology: topology.tenant.plan), _both(first, _capacity)
        table.add_row(f"{first.tenant}{more}", first.kind, plan, queues, told, lost)
    return table


def _both(difference: TenantDifference, figure: Callable[[Topology], str]) -> str:
    was, now = (None if side is None else figure(side) for side in (difference.before, difference.after))
    return _step(was, now)


def _step(was: object, now: object) -> str:
    return f"{'none' if was is None else was} → {'none' if now is None else now}" if was != now else str(now)


def _capacity(topology: Topology) -> str:
    return f"{use(topology).queues} of {topology.limits.max_queues}"


def _told(finding: Finding) -> str:
    whose = f"tenant {finding.tenant!r} " if finding.tenant else ""
    return f"{finding.guardrail.label}: {whose}{finding.object}: {finding.message}"


def _plain(review: Review) -> dict[str, Any]:
    judgement = review.judgement
    found: dict[str, Any] = {
        "base": review.base,
        "tenants": {kind: review.count(kind) for kind in ("added", "changed", "removed")},
        "queues_lost": review.lost,
        "capacity": {difference.tenant: _capacities(difference) for difference in review.differences},
        "fits": review.fits,
        "whole": review.whole,
        "notes": list(review.notes),
        "exit_status": review.exit_status,
    }
    if judgement is None:
        return found
    return found | {
        "blocking": [_finding(finding) for finding in judgement.blocking],
        "accepted": [{**_finding(finding), "reason": entry.reason} for finding, entry in judgement.accepted],
        "unmatched": [entry.model_dump() for entry in judgement.unmatched],
        "spent": [entry.model_dump() for entry in judgement.spent],
    }


def _capacities(difference: TenantDifference) -> dict[str, Any]:
    sides = {"before": difference.before, "after": difference.after}
    return {name: None if side is None else _used(side) for name, side in sides.items()}


def _used(topology: Topology) -> dict[str, Any]:
    used = use(topology)
    return {"queues": used.queues, "exchanges": used.exchanges, "limits": topology.limits.model_dump()}


def _finding(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "guardrail": finding.guardrail.label}
