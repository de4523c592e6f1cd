"""`kryonix plan --against`: show what a change does, and block it if a guardrail trips."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import typer
from rich.markup import escape
from rich.text import Text

from kryonix.cli.options import CatalogFile, load_catalog, read_bytes
from kryonix.cli.output.console import err, out
from kryonix.cli.output.plan import slots, write_json
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.errors import InvalidChoice
from kryonix.review.base.git import Repository, Revision
from kryonix.review.base.sides import Pair, Present, accepted_before, against_file, against_revision
from kryonix.review.differences import Action, Change, Group, TenantDifference, differences, renamed
from kryonix.review.escaping import DONE, counted
from kryonix.review.finding_sections import rows
from kryonix.review.guardrails import ACCEPTED_FILE, Finding, Judgement, judge, parse_acceptances
from kryonix.review.plain_text import added_since, is_read, secrets_in
from kryonix.review.report import LONGEST_COMMENT, SHORTEST_REPORT, Review, markdown, refusal
from kryonix.review.rules import find, misfit
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.errors import nearest
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names
from kryonix.topology.objects import KINDS
from kryonix.topology.tenants import Tenant, parse_tenants

# Files outside the expansion that also decide what is on the broker; only a preview shows what they change.
_NOT_REVIEWED: Final = ("__main__.py", "components", "Pulumi.yaml", "Pulumi.*.yaml")
_NAMES_SHOWN: Final = 3
_ROWS_SHOWN: Final = 60
_TENANT_COLUMNS: Final[tuple[Column[Group], ...]] = (
    Column("tenant", lambda group: _whose(group), min_width=16),
    Column("change", lambda group: group.first.kind),
    Column("plan", lambda group: _both(group, lambda topology: topology.tenant.plan), min_width=12),
    Column("queues", lambda group: _both(group, _queues), number=True, min_width=11),
    Column("queues lost", lambda group: _lost(group.first), number=True),
)


class _ObjectRow(NamedTuple):
    tenant: str
    action: Action
    what: str
    lost: bool


_OBJECT_COLUMNS: Final[tuple[Column[_ObjectRow], ...]] = (
    Column("tenant", lambda row: row.tenant, min_width=16),
    Column("action", lambda row: row.action),
    Column("what", lambda row: row.what, min_width=20),
    Column("effect", lambda row: Text("loses its messages", "red") if row.lost else ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The options of `kryonix plan`."""

    tenants: Annotated[Path, typer.Option(help="File with the list of tenants.")] = Path("tenants.yaml")
    tenant: Annotated[str | None, typer.Option(help="Only this tenant, with all its queues.")] = None
    catalog: CatalogFile = None
    against: Annotated[
        str | None, typer.Option(help="Show the differences from a git revision, or from another list of tenants.")
    ] = None
    format: Annotated[
        Literal["table", "markdown", "json"],
        typer.Option(metavar="FORMAT", help="table or json; with --against also markdown."),
    ] = "table"
    full: Annotated[Path | None, typer.Option(help="With --against: write the whole report here, as Markdown.")] = None
    limit: Annotated[int, typer.Option(help="With --format markdown: maximum bytes to print.")] = LONGEST_COMMENT
    accepted: Annotated[Path, typer.Option(help="File of accepted changes.")] = Path(ACCEPTED_FILE)
    guard: Annotated[
        bool | None,
        typer.Option(
            "--guard/--no-guard",
            help="Exit with 10 to 16 if a guardrail trips; default: on for a revision, off for a file.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class _Branch:
    """A revision, and the merge base with it: the revision to compare with."""

    named: Revision
    merge_base: Revision
    notes: tuple[str, ...]


_Base = Path | _Branch


def review_change(wanted: PlanOptions, against: str) -> int:
    """Show the differences from the base, and return the exit status. Raises InvalidChoice for invalid input."""
    if wanted.limit < SHORTEST_REPORT:
        raise InvalidChoice(f"--limit {wanted.limit} is too small for a report (minimum: {SHORTEST_REPORT} bytes)")
    base = _base(wanted, against)
    label = str(base) if isinstance(base, Path) else base.merge_base.label
    try:
        catalog = load_catalog(wanted.catalog)
        tenants = parse_tenants(read_bytes(wanted.tenants), str(wanted.tenants), catalog)
        review = _review(wanted, base, label, Present(wanted.tenants, wanted.catalog, tenants, catalog))
    except InvalidChoice as error:
        if wanted.format == "markdown":
            problems = str(error).splitlines()
            _write_full(wanted, refusal(label, problems))
            sys.stdout.write(refusal(label, problems, limit=wanted.limit))
        raise
    if wanted.full is not None:
        _write_full(wanted, markdown(review))
    if wanted.format == "markdown":
        sys.stdout.write(markdown(review, limit=wanted.limit, full=str(wanted.full) if wanted.full else None))
    elif wanted.format == "json":
        changes = [change for difference in review.differences for change in difference.changes]
        write_json(
            (expand(tenant, catalog) for tenant in _only(wanted.tenant, tenants)),
            changes=[{**slots(change), "loses_messages": change.loses_messages} for change in changes],
            review=_review_json(review),
        )
    else:
        print_tables(review)
    return review.exit_status


def _base(wanted: PlanOptions, against: str) -> _Base:
    """Return the file of that name if it exists, else the git revision."""
    if "\0" in against or not against:
        raise InvalidChoice(f"--against {against!r} is neither a file nor a git revision")
    if Path(against).is_file():
        return Path(against)
    around = wanted.tenants.parent.resolve()
    repository = Repository.around(around)
    if repository is None:
        raise InvalidChoice(f"--against {against!r} is not a file, and {str(around)!r} is not in a git repository")
    named = repository.revision(against)
    merge_base, note = named.forked()
    return _Branch(named, merge_base, (note,) if note else ())


def _review(wanted: PlanOptions, base: _Base, label: str, present: Present) -> Review:
    guarded = isinstance(base, _Branch) if wanted.guard is None else wanted.guard
    if not guarded:
        expand_within_plans(present.tenants, present.catalog, str(wanted.tenants))
    if isinstance(base, Path):
        pair = against_file(str(base), read_bytes(base), present)
    else:
        pair = against_revision(base.merge_base, present)
        notes = [*base.notes, *pair.notes]
        if paths := base.merge_base.changed(*_NOT_REVIEWED):
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            shown = ", ".join(f"'{path}'" for path in paths[:3]) + more
            notes.append(f"{shown} changed too; only 'kryonix preview' shows what that does to the broker")
        pair = replace(pair, notes=tuple(notes))
    tenants = _only(wanted.tenant, present.tenants)
    if wanted.tenant is not None:
        pair = _of_one(wanted.tenant, pair, present.tenants)
    found = differences(pair.before, pair.after)
    misfits, fitting = [], set()
    for tenant in tenants:
        choice = (tenant.modules, tenant.plan)  # each that fits is expanded once
        finding = None if choice in fitting else misfit(tenant, present.catalog)
        if finding is None:
            fitting.add(choice)
        else:
            misfits.append(finding)
    judgement = _judge(wanted, base, found, misfits) if guarded else None
    return Review(label, found, judgement, (*pair.notes, *renamed(found)), fits=not misfits, complete=pair.complete)


def _judge(wanted: PlanOptions, base: _Base, found: Iterable[TenantDifference], misfits: list[Finding]) -> Judgement:
    """Judge the findings by the accepted changes of the work tree; those of the base no longer count."""
    findings = [finding for difference in found for finding in find(difference)] + misfits
    if isinstance(base, _Branch):
        added = base.merge_base.added_lines()
    else:
        name = wanted.tenants.name
        added = added_since(read_bytes(base), read_bytes(wanted.tenants) if is_read(name) else b"", name)
    findings += dict.fromkeys(secrets_in(added))
    accepted = parse_acceptances(read_bytes(wanted.accepted), str(wanted.accepted)) if wanted.accepted.exists() else []
    revisions = (base.named, base.merge_base) if isinstance(base, _Branch) else ()
    judgement = judge(findings, accepted, accepted_before(wanted.accepted, revisions))
    # A review of one tenant can't judge the entries for others.
    return judgement if wanted.tenant is None else replace(judgement, unmatched=(), spent=())


def _only(tenant: str | None, tenants: list[Tenant]) -> list[Tenant]:
    return [each for each in tenants if tenant in (None, each.id)]


def _of_one(tenant: str, pair: Pair, now: list[Tenant]) -> Pair:
    known = dict.fromkeys([*(each.id for each in now), *(each.tenant.id for each in pair.before)])
    if tenant not in known:
        raise InvalidChoice(f"--tenant {tenant!r} is in neither list; {nearest(tenant, known)}")
    before, after = ([each for each in side if each.tenant.id == tenant] for side in (pair.before, pair.after))
    return replace(pair, before=before, after=after)


def _write_full(wanted: PlanOptions, text: str) -> None:
    """Write the whole report to the file of --full, if given."""
    if wanted.full is None:
        return
    try:
        wanted.full.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = f"--full {str(wanted.full)!r} can't be written: {error.strerror}"
        raise InvalidChoice(f"{problem}. Give another file") from error


def print_tables(review: Review) -> None:
    """Print the affected tenants, the changed objects, the tripped guardrails and the verdict."""
    for note in review.notes:
        err.print(f"note: {escape(note)}", soft_wrap=True)
    if review.differences:
        groups = review.groups
        cut = f", {_ROWS_SHOWN} of {len(groups):,} kinds" if len(groups) > _ROWS_SHOWN else ""
        out.print(responsive_table(f"Differences by tenant{cut}", _TENANT_COLUMNS, groups[:_ROWS_SHOWN], out))
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
        whose = f"tenant {row.tenants[0]!r} " if row.tenants[0] else ""
        alike = f" and {len(row.tenants) - 1:,} alike" if len(row.tenants) > 1 else ""
        what = row.pattern + (f" ({len(row.objects)} queues)" if len(row.objects) > 1 else "")
        text = f"{row.guardrail.label}: {whose}{what}{alike}: {row.message}"
        err.print(f"[bold red]blocked:[/bold red] {escape(text)}", soft_wrap=True)
    counts = Counter(finding.guardrail.label for finding in review.judgement.blocking)
    verdict = ", ".join(f"{label} × {count:,}" for label, count in counts.items())
    blocked = f"[bold]Blocked by {verdict} (exit status {review.exit_status})[/bold]"
    err.print(blocked if counts else "No guardrail blocks this change.", soft_wrap=True)


def _both(group: Group, figure: Callable[[Topology], str]) -> str:
    """Return a figure of a changed tenant before and after, or of an added or removed one."""
    first = group.first
    was, now = (None if side is None else figure(side) for side in (first.before, first.after))
    return _step(was, now) if first.kind == "changed" else str(was if now is None else now)


def _whose(group: Group) -> str:
    return group.first.tenant + (f" and {len(group.tenants) - 1:,} alike" if len(group.tenants) > 1 else "")


def _queues(topology: Topology) -> str:
    return f"{len(topology.queues)} of {topology.limits.max_queues}"


def _lost(difference: TenantDifference) -> str | Text:
    return Text(str(len(difference.lost)), "red") if difference.lost else "none"


def _step(was: object, now: object) -> str:
    return f"{'none' if was is None else was} → {'none' if now is None else now}" if was != now else str(now)


def _print_objects(review: Review) -> None:
    """Print the changed queues, policies, permissions and limits by name, and the number of other changes."""
    found = sorted((row for group in review.groups for row in _object_rows(group)), key=lambda row: not row.lost)
    if found:
        changes = counted(sum(len(difference.changes) for difference in review.differences), "change")
        title = f"{changes} in {counted(len(review.differences), 'tenant')}"
        cut = f", the first {_ROWS_SHOWN} of {len(found):,} rows" if len(found) > _ROWS_SHOWN else ""
        out.print(responsive_table(f"{title}{cut}", _OBJECT_COLUMNS, found[:_ROWS_SHOWN], out))
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


def _object_rows(group: Group) -> Iterator[_ObjectRow]:
    """Yield one row per action and module for queues; one per action for limits, policies and permissions."""
    prefix = f"{Names(group.first.tenant).exchange}."
    alike: dict[tuple[Action, str, str], list[str]] = {}
    for change in group.first.changes:
        if _is_named(change):
            name = change.name.removeprefix(prefix)
            module, dot, _ = name.partition(".") if change.kind == "queue" else ("", "", "")
            alike.setdefault((change.action, change.kind, module if dot else ""), []).append(name)
    for (action, kind, module), names in alike.items():
        more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
        if kind == "vhost":
            limits = [field for field in group.first.limits if field.differs]
            what = "\n".join(f"{field.name} {_step(field.before, field.after)}" for field in limits)
        elif kind == "permissions":
            what = "permissions"
        elif module and more:
            what = f"{counted(len(names), kind)} of {module}"
        else:
            what = f"{counted(len(names), kind)}: {', '.join(names[:_NAMES_SHOWN])}{more}"
        yield _ObjectRow(_whose(group), action, what, lost=kind == "queue" and action in ("remove", "replace"))


def _review_json(review: Review) -> dict[str, Any]:
    judgement = review.judgement
    found: dict[str, Any] = {
        "base": review.base,
        "tenants": {kind: review.count(kind) for kind in ("added", "changed", "removed")},
        "queues_lost": review.lost,
        "capacity": {
            each.tenant: {"before": _use_json(each.before), "after": _use_json(each.after)}
            for each in review.differences
        },
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


def _use_json(topology: Topology | None) -> dict[str, Any] | None:
    if topology is None:
        return None
    counts = {"queues": len(topology.queues), "exchanges": len(topology.exchanges)}
    return {**counts, "limits": topology.limits.model_dump()}


def _finding_json(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "guardrail": finding.guardrail.label}
