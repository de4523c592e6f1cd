"""What a restore would change and has changed, as tables and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.backup.differences import Difference
from kryonix.backup.manifest import Manifest
from kryonix.backup.platform_restoring import PlatformPlan, PlatformRestored
from kryonix.backup.restore_plan import RestorePlan, StateFate
from kryonix.cli.output.backup import of_kind
from kryonix.cli.output.console import foreign
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.errors import KryonixError
from kryonix.review.escaping import counted

_LISTED: Final = 20
"""Differences of one sort that a plan names; the counts say enough of more."""
_WORDS: Final = {"missing": "add", "changed": "change", "extra": "stays"}
_COLOURS: Final = {"restored": "green", "failed": "red", "would change": "yellow"}
_NOUNS: Final = {"state": "resource"}
_STATES: Final[dict[StateFate, str]] = {
    "restored": "restored from the bundle",
    "unchanged": "as in the bundle",
    "kept": "not in the bundle: the one here stays",
    "missing": "neither in the bundle nor here: the next run gives the tenant a new password",
    "platform": "part of the platform's, and stays as it is",
}
_SERVICES: Final = {
    "running": "what is missing is made again",
    "lost": "broker or registry does not answer: started again, or made again empty if lost",
    "unknown": "seen once the state is back: what runs goes on, what is missing is made again",
}
_UNLESS: Final = {"running": "", "lost": ", unless the stack makes them", "unknown": ", unless they are there"}


def changes(plan: RestorePlan) -> bool:
    """Return True if a restore would change anything: what is only here stays."""
    return any(each.op != "extra" for each in plan.differences)


def plan_json(plan: RestorePlan, manifest: Manifest) -> dict[str, Any]:
    return {
        "tenant": plan.tenant,
        "as_new": plan.renamed_from is not None,
        "created_at": manifest.created_at,
        "exists": plan.exists,
        "differences": [asdict(each) for each in plan.differences],
        "messages_to_delete": _losses(plan),
        "state": plan.state,
    }


def plan_report(plan: RestorePlan, manifest: Manifest) -> Iterator[str]:
    """Yield what a restore would do: counts, and the names, unless all of a tenant is lost."""
    made = _made(manifest)
    if plan.renamed_from:
        yield f"Tenant [bold]{foreign(plan.tenant)}[/bold], a new one, from the bundle of {plan.renamed_from} {made}:"
    else:
        yield f"Tenant [bold]{foreign(plan.tenant)}[/bold] from its bundle {made}:"
    for op, word in _WORDS.items():
        if found := _differing(plan, op):
            yield f"  [bold]{word:<8}[/bold]{_counts(found)}"
            named = [each for each in found if each.kind != "state" and (plan.exists or op != "missing")]
            yield from (f"          {foreign(_line(each))}" for each in (named if len(named) <= _LISTED else ()))
    if changes(plan):
        yield f"  [bold]state[/bold]   {_STATES[plan.state]}"
    for queue, messages in _losses(plan).items():
        yield f"[bold red]{messages:,} message(s) in {foreign(queue)} would be deleted.[/bold red]"
    if left := plan.snapshot.left_out:
        yield foreign(_by_hand(left))
    if not changes(plan):
        yield "Everything is as in the bundle: nothing to restore."


def restored_text(plan: RestorePlan, seconds: float) -> str:
    """Return what a restore did, in one line."""
    done = [
        f"{_counts(found)} {word}"
        for op, word in (("missing", "added"), ("changed", "changed back"), ("extra", "left as found"))
        if (found := _differing(plan, op))
    ]
    return foreign(f"{plan.tenant} restored in {seconds:.1f} s: {'; '.join(done)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one of several tenants. `plan` is None if it failed before."""

    tenant: str
    at: datetime
    plan: RestorePlan | None
    error: KryonixError | None
    seconds: float

    def result(self, *, dry_run: bool) -> str:
        if self.error is not None:
            return "failed"
        if self.plan is None:
            return "after the platform"
        if not changes(self.plan):
            return "unchanged"
        return "would change" if dry_run else "restored"


def platform_json(
    plan: PlatformPlan, manifest: Manifest, with_state: Manifest, restored: PlatformRestored | None
) -> dict[str, Any]:
    return {
        "platform": manifest.stack,
        "created_at": manifest.created_at,
        "state": plan.state,
        "state_created_at": with_state.created_at if plan.state == "restored" else None,
        "services": plan.services,
        "rows": dict(plan.rows),
        "objects": {kind: list(names) for kind, names in plan.objects.items()},
        "unfinished_operations": plan.unfinished,
        "tenants_beside": plan.others,
        "left_out": plan.left_out if restored is None else restored.left_out,
        "seconds": None if restored is None else round(restored.seconds, 3),
    }


def platform_report(plan: PlatformPlan, manifest: Manifest, with_state: Manifest) -> Iterator[str]:
    """Yield what a restore of the platform would do. `with_state` is of the bundle that has the stack's state."""
    older = "" if with_state == manifest else f" {_made(with_state)}"
    state = f"lost: restored from the bundle{older}" if plan.state == "restored" else "stays as it is"
    unless = _UNLESS[plan.services]
    yield f"Platform of stack [bold]{foreign(manifest.stack)}[/bold] from its bundle {_made(manifest)}:"
    yield f"  [bold]state[/bold]   {state}"
    yield f"  [bold]stack[/bold]   {_SERVICES[plan.services]}"
    if plan.rows:
        beside = unless if plan.services == "unknown" else ""
        tables = counted(len(plan.rows), "table")
        yield f"  [bold]rows[/bold]    {sum(plan.rows.values()):,} added, in {tables}{beside}"
    if plan.objects:
        kinds = ", ".join(of_kind(len(names), kind) for kind, names in plan.objects.items())
        yield f"  [bold]broker[/bold]  {kinds}{unless}"
    if plan.others:
        yield foreign(f"  Tenants that the bundle does not have stay: {', '.join(plan.others)}.")
    if plan.unfinished:
        yield f"  {counted(plan.unfinished, 'unfinished operation')} of the signup service will count as failed."
    if plan.left_out and plan.services == "running":
        yield foreign(f"  {_by_hand(plan.left_out)}")


def platform_text(restored: PlatformRestored) -> str:
    """Return what a restore of the platform did, and what is left to do."""
    rows, objects = sum(restored.rows.values()), sum(restored.objects.values())
    added = f"{rows:,} row(s) and {objects:,} object(s) of the broker added"
    done = f"Platform restored in {restored.seconds:.1f} s: {added}."
    return f"{done}\n{foreign(_by_hand(restored.left_out))}" if restored.left_out else done


def _by_hand(left: Sequence[str]) -> str:
    return f"Declare again yourself, as it acts with a login of its own: {', '.join(left)}."


def all_json(platform: Mapping[str, Any] | None, outcomes: Sequence[Outcome], *, dry_run: bool) -> dict[str, Any]:
    tenants = [
        {
            "tenant": each.tenant,
            "created_at": each.at,
            "result": each.result(dry_run=dry_run),
            "differences": None if each.plan is None else len(each.plan.differences),
            "seconds": round(each.seconds, 3),
            "error": None if each.error is None else str(each.error),
        }
        for each in outcomes
    ]
    return {"dry_run": dry_run, "platform": platform, "tenants": tenants}


def outcomes_table(outcomes: Sequence[Outcome], console: Console, *, dry_run: bool) -> Table:
    """Return a row per tenant."""
    results = Counter(each.result(dry_run=dry_run) for each in outcomes)
    title = f"{len(outcomes)} tenant(s)" + "".join(f", {count} {result}" for result, count in results.items())
    columns: tuple[Column[Outcome], ...] = (
        Column("tenant", lambda each: each.tenant, min_width=12),
        Column("bundle of (UTC)", lambda each: f"{each.at:%Y-%m-%d %H:%M}"),
        Column("result", lambda each: Text(result := each.result(dry_run=dry_run), _COLOURS.get(result, ""))),
        Column("seconds", lambda each: f"{each.seconds:.1f}", number=True),
    )
    return responsive_table(title, columns, outcomes, console)


def _differing(plan: RestorePlan, op: str) -> list[Difference]:
    """Return the differences of one sort, without the tenant's entry, which its rows say too."""
    return [each for each in plan.differences if each.op == op and each.kind != "entry"]


def _losses(plan: RestorePlan) -> dict[str, int]:
    """Return the messages that a restore would delete, by queue."""
    return {queue: messages for queue, messages in {**plan.replaced, **plan.trimmed}.items() if messages}


def _line(difference: Difference) -> str:
    detail = f": {difference.detail}" if difference.detail else ""
    return f"{difference.kind} {difference.name}{detail}"


def _counts(found: Iterable[Difference]) -> str:
    """Return counts such as `27 queues, 1 vhost`."""
    counts = Counter(_NOUNS.get(each.kind, each.kind) for each in found)
    return ", ".join(counted(count, noun) for noun, count in counts.most_common())


def _made(manifest: Manifest) -> str:
    """Return when a bundle was made, and how long ago."""
    seconds = max((datetime.now(UTC) - manifest.created_at).total_seconds(), 0)
    age = "just now"
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            age = f"{counted(int(seconds // length), unit)} ago"
            break
    return f"made at {manifest.created_at:%Y-%m-%d %H:%M} UTC, {age}"
