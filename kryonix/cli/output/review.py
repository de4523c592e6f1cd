"""A review as tables and as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.console import err, out
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cli.plan import write_json
from kryonix.review.differences import Action, Change, Group, TenantDifference
from kryonix.review.escaping import DONE, counted
from kryonix.review.finding_sections import Row, rows
from kryonix.review.guardrails import Finding
from kryonix.review.report import Review
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names
from kryonix.topology.objects import KINDS
from kryonix.topology.tenants import Tenant

_NAMES_SHOWN: Final = 3
_ROWS_SHOWN: Final = 60


def print_tables(review: Review) -> None:
    """Print the affected tenants, the changed objects, the tripped guardrails and the verdict."""
    for note in review.notes:
        err.print(f"note: {escape(note)}", soft_wrap=True)
    if review.differences:
        out.print(_tenants(review.groups))
        _print_objects(review)
    else:
        out.print("No changes.")
    if review.judgement is None:
        return
    for finding, entry in review.judgement.accepted:
        whose = f"tenant {finding.tenant!r} " if finding.tenant else ""
        text = f"{finding.guardrail.label}: {whose}{finding.object} ({entry.reason})"
        err.print(f"accepted: {escape(text)}", soft_wrap=True)
    for row in rows(review.judgement.blocking):
        err.print(f"[bold red]blocked:[/bold red] {escape(_blocking_text(row))}", soft_wrap=True)
    err.print(_verdict(review.judgement.blocking, review.exit_status), soft_wrap=True)


def write_review(review: Review, tenants: Iterable[Tenant], catalog: Catalog) -> None:
    """Write the plan of every tenant, every change, and the review, as JSON."""
    changes = [change for difference in review.differences for change in difference.changes]
    write_json((expand(tenant, catalog) for tenant in tenants), changes, sys.stdout, _review_json(review))


_TENANT_COLUMNS: Final = (
    Column("tenant", min_width=16),
    Column("change"),
    Column("plan", min_width=12),
    Column("queues", number=True, min_width=11),
    Column("queues lost", number=True),
)
_OBJECT_COLUMNS: Final = (
    Column("tenant", min_width=16),
    Column("action"),
    Column("what", min_width=20),
    Column("effect"),
)


def _tenants(groups: Iterable[Group]) -> Table:
    found = list(groups)
    cut = f", {_ROWS_SHOWN} of {len(found):,} kinds" if len(found) > _ROWS_SHOWN else ""
    return responsive_table(f"Differences by tenant{cut}", _TENANT_COLUMNS, map(_tenant_row, found[:_ROWS_SHOWN]), out)


def _tenant_row(group: Group) -> list[str]:
    first = group.first
    lost = f"[red]{len(first.lost)}[/red]" if first.lost else "none"
    plan, queues = _both(first, lambda topology: topology.tenant.plan), _both(first, _queues_text)
    return [_whose(group), first.kind, plan, queues, lost]


def _whose(group: Group) -> str:
    return group.first.tenant + (f" and {len(group.tenants) - 1:,} alike" if len(group.tenants) > 1 else "")


def _print_objects(review: Review) -> None:
    """Print the changed queues, policies, permissions and limits by name, and the number of other changes."""
    found = [row for group in review.groups for row in _object_rows(group)]
    if found:
        found.sort(key=lambda row: not row[-1])
        changes = sum(len(difference.changes) for difference in review.differences)
        cut = f", the first {_ROWS_SHOWN} of {len(found):,} rows" if len(found) > _ROWS_SHOWN else ""
        out.print(responsive_table(f"{changes:,} change(s){cut}", _OBJECT_COLUMNS, found[:_ROWS_SHOWN], out))
        if cut:
            out.print("`--format markdown` and `--json` list all of them.")
    others: dict[Action, Counter[str]] = {}
    for difference in review.differences:
        for change in difference.changes:
            if not _is_named(change) and change.kind not in ("tenant", "permissions"):
                others.setdefault(change.action, Counter())[change.kind] += 1
    if others:
        text = "; ".join(
            f"{', '.join(counted(count, kind) for kind, count in kinds.items())} {DONE[action]}"
            for action, kinds in others.items()
        )
        out.print(f"Also {text}.", soft_wrap=True)


def _is_named(change: Change) -> bool:
    """Return True if the table has a row for the change. New and removed tenants are in the tenants' table."""
    kind = KINDS.get(change.kind)
    if kind is None:
        return change.kind != "tenant" and change.action == "change"
    return kind.holds_messages or (change.action == "change" and not kind.immutable)


def _object_rows(group: Group) -> Iterator[list[str]]:
    """Yield one row per action and module for queues; one per action for limits, policies and permissions."""
    prefix = f"{Names(group.first.tenant).exchange}."
    alike: dict[tuple[Action, str, str], list[str]] = {}
    for change in group.first.changes:
        if _is_named(change):
            name = change.name.removeprefix(prefix)
            module, dot, _ = name.partition(".") if change.kind == "queue" else ("", "", "")
            alike.setdefault((change.action, change.kind, module if dot else ""), []).append(name)
    for (action, kind, module), names in alike.items():
        lost = kind == "queue" and action in ("remove", "replace")
        warning = "[red]loses its messages[/red]" if lost else ""
        yield [_whose(group), action, escape(_what(group.first, kind, module, names)), warning]


def _what(difference: TenantDifference, kind: str, module: str, names: Sequence[str]) -> str:
    if kind == "vhost":
        return "\n".join(
            f"{field.name} {_step(field.before, field.after)}" for field in difference.limits if field.differs
        )
    if kind == "permissions":
        return "permissions"
    count = counted(len(names), kind)
    if module and len(names) > _NAMES_SHOWN:
        return f"{count} of {module}"
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return f"{count}: {', '.join(names[:_NAMES_SHOWN])}{more}"


def _both(difference: TenantDifference, figure: Callable[[Topology], str]) -> str:
    was, now = (None if side is None else figure(side) for side in (difference.before, difference.after))
    return _step(was, now) if difference.kind == "changed" else str(was if now is None else now)


def _step(was: object, now: object) -> str:
    return f"{'none' if was is None else was} → {'none' if now is None else now}" if was != now else str(now)


def _queues_text(topology: Topology) -> str:
    return f"{use(topology).queues} of {topology.limits.max_queues}"


def _blocking_text(row: Row) -> str:
    whose = f"tenant {row.tenants[0]!r} " if row.tenants[0] else ""
    alike = f" and {len(row.tenants) - 1:,} alike" if len(row.tenants) > 1 else ""
    what = row.pattern + (f" ({len(row.objects)} queues)" if len(row.objects) > 1 else "")
    return f"{row.guardrail.label}: {whose}{what}{alike}: {row.message}"


def _verdict(blocking: Iterable[Finding], exit_status: int) -> str:
    counts = Counter(finding.guardrail.label for finding in blocking)
    if not counts:
        return "No guardrail blocks this change."
    text = ", ".join(f"{label} × {count:,}" for label, count in counts.items())
    return f"[bold]Blocked by {text} (exit status {exit_status})[/bold]"


def _review_json(review: Review) -> dict[str, Any]:
    judgement = review.judgement
    found: dict[str, Any] = {
        "base": review.base,
        "tenants": {kind: review.count(kind) for kind in ("added", "changed", "removed")},
        "queues_lost": review.lost,
        "capacity": {difference.tenant: _capacity_json(difference) for difference in review.differences},
        "fits": review.fits,
        "whole": review.complete,
        "notes": list(review.notes),
        "exit_status": review.exit_status,
    }
    if judgement is None:
        return found
    return found | {
        "blocking": [_finding_json(finding) for finding in judgement.blocking],
        "accepted": [{**_finding_json(finding), "reason": entry.reason} for finding, entry in judgement.accepted],
        "unmatched": [entry.model_dump() for entry in judgement.unmatched],
        "spent": [entry.model_dump() for entry in judgement.spent],
    }


def _capacity_json(difference: TenantDifference) -> dict[str, Any]:
    sides = {"before": difference.before, "after": difference.after}
    return {name: None if side is None else _use_json(side) for name, side in sides.items()}


def _use_json(topology: Topology) -> dict[str, Any]:
    used = use(topology)
    return {"queues": used.queues, "exchanges": used.exchanges, "limits": topology.limits.model_dump()}


def _finding_json(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "guardrail": finding.guardrail.label}
