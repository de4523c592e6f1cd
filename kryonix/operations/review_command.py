"""`kryonix plan --against`: reviewing a change, and showing it as a table, as Markdown or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from kryonix.operations.console import err, out
from kryonix.operations.errors import InvalidChoice
from kryonix.operations.plan import changes_table, write_json
from kryonix.operations.review_base import Pair, Sources, accepted_at, against_file, against_revision
from kryonix.operations.review_git import Repository, Revision
from kryonix.review.acceptance import Acceptance, judge, parse_acceptances
from kryonix.review.differences import differences
from kryonix.review.guardrails import Finding
from kryonix.review.markdown import SHORTEST_REPORT, markdown, refusal
from kryonix.review.plain_text import AddedLine, is_read, secrets_in
from kryonix.review.report import Review
from kryonix.review.rules import find, misfit
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.comparison import Change
from kryonix.topology.errors import TopologyError, nearest
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant, parse_tenants

__all__ = ["Wanted", "review_change"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    tenants: Path
    catalog: Path | None
    tenant: str | None
    against: str
    format: str
    full: Path | None
    limit: int
    accepted: Path
    guard: bool | None
    """Whether guardrails hold the change back; None for: where the base is a revision."""


def review_change(wanted: Wanted) -> int:
    """Show what differs from the base, and return the exit status. Raises InvalidInput for what can't be read."""
    if wanted.limit < SHORTEST_REPORT:
        raise InvalidChoice(f"--limit {wanted.limit} is too little for a report. Give {SHORTEST_REPORT} bytes or more")
    base = _base(wanted)
    guard = isinstance(base, Revision) if wanted.guard is None else wanted.guard
    try:
        review, catalog, now = _review(wanted, base, guard)
    except TopologyError as error:
        if wanted.format == "markdown":
            _refuse(wanted, base, error)
        raise
    _show(wanted, review, catalog, now)
    return review.exit_status if guard else 0


def _base(wanted: Wanted) -> Revision | Path:
    """The base: a file where there is one of that name, else a revision."""
    file = Path(wanted.against)
    if "\0" in wanted.against or not wanted.against:
        raise InvalidChoice(f"--against {wanted.against!r} is no file and no revision. Name one")
    if file.is_file():
        return file
    repository = Repository.around(wanted.tenants.parent.resolve())
    if repository is None:
        where = str(wanted.tenants.parent.resolve())
        raise InvalidChoice(f"--against {wanted.against!r} is no file, and {where!r} is in no git repository")
    return repository.revision(wanted.against)


def _review(wanted: Wanted, base: Revision | Path, guard: bool) -> tuple[Review, Catalog, list[Tenant]]:
    catalog = default_catalog() if wanted.catalog is None else parse_catalog(_read(wanted.catalog), str(wanted.catalog))
    now = parse_tenants(_read(wanted.tenants), str(wanted.tenants), catalog)
    misfits = list(_misfits(now, catalog))
    if misfits and not guard:
        expand_within_plans(now, catalog, str(wanted.tenants))  # tells all of them, as every other command does
    if isinstance(base, Path):
        pair = against_file(str(base), _read(base), now, catalog)
    else:
        pair = against_revision(base, Sources(wanted.tenants, wanted.catalog, Path.cwd()), now, catalog)
    pair = _only(wanted.tenant, pair, now)
    found = differences(pair.before, pair.after)
    mine = [each for each in misfits if wanted.tenant in (None, each.tenant)]
    findings = [finding for difference in found for finding in find(difference)] + mine if guard else []
    findings += list(dict.fromkeys(secrets_in(_added(wanted, base)))) if guard else []
    head, earlier = _acceptances(wanted, base) if guard else ([], [])
    judgement = judge(findings, head, earlier)
    if wanted.tenant is not None:
        judgement = replace(judgement, unmatched=(), spent=())
    label = base.label if isinstance(base, Revision) else str(base)
    return Review(label, found, judgement, pair.notes, fits=not mine), catalog, now


def _misfits(tenants: Iterable[Tenant], catalog: Catalog) -> Iterator[Finding]:
    """Tenants that don't fit their plans. Whether one does depends on its modules and plan: each pair is tried once."""
    fits: dict[tuple[tuple[str, ...], str], bool] = {}
    for tenant in tenants:
        key = (tenant.modules, tenant.plan)
        if not fits.get(key, False):
            found = misfit(tenant, catalog)
            fits[key] = found is None
            if found is not None:
                yield found


def _only(tenant: str | None, pair: Pair, now: list[Tenant]) -> Pair:
    if tenant is None:
        return pair
    known = dict.fromkeys([*(each.id for each in now), *(each.tenant.id for each in pair.before)])
    if tenant not in known:
        raise InvalidChoice(f"--tenant {tenant!r} is not in the list; {nearest(tenant, known)}")
    before, after = ([each for each in side if each.tenant.id == tenant] for side in (pair.before, pair.after))
    return Pair(before, after, pair.notes)


def _added(wanted: Wanted, base: Revision | Path) -> Iterable[AddedLine]:
    if isinstance(base, Revision):
        return base.added_lines()
    was = set(_read(base).decode(errors="replace").split("\n"))
    lines = enumerate(_read(wanted.tenants).decode(errors="replace").split("\n"), 1)
    name = wanted.tenants.name
    return (AddedLine(name, at, text) for at, text in lines if text not in was and is_read(name))


def _acceptances(wanted: Wanted, base: Revision | Path) -> tuple[list[Acceptance], list[Acceptance]]:
    """The entries here, and those of the base, which count no more."""
    head = parse_acceptances(_read(wanted.accepted), str(wanted.accepted)) if wanted.accepted.exists() else []
    return head, accepted_at(base, wanted.accepted) if isinstance(base, Revision) else []


def _refuse(wanted: Wanted, base: Revision | Path, error: TopologyError) -> None:
    label = base.label if isinstance(base, Revision) else str(base)
    problems = str(error).splitlines()
    _write(wanted, refusal(label, problems))
    sys.stdout.write(refusal(label, problems, limit=wanted.limit))


def _show(wanted: Wanted, review: Review, catalog: Catalog, now: list[Tenant]) -> None:
    if wanted.full is not None:
        _write(wanted, markdown(review))
    changes = [change for difference in review.differences for change in difference.changes]
    if wanted.format == "markdown":
        sys.stdout.write(markdown(review, limit=wanted.limit, full=str(wanted.full) if wanted.full else None))
    elif wanted.format == "json":
        shown = (expand(tenant, catalog) for tenant in now if wanted.tenant in (None, tenant.id))
        write_json(shown, changes, sys.stdout, _summary(review))
    else:
        _table(review, changes)


def _table(review: Review, changes: list[Change]) -> None:
    for note in review.notes:
        err.print(f"note: {escape(note)}", soft_wrap=True)
    changes_table(changes, out)
    for finding in review.judgement.blocking:
        whose = f"tenant {finding.tenant!r} " if finding.tenant else ""
        told = f"{finding.guardrail.label}: {whose}{finding.object}: {finding.message}"
        err.print(f"[bold red]held back:[/bold red] {escape(told)}", soft_wrap=True)


def _summary(review: Review) -> dict[str, Any]:
    judgement = review.judgement
    return {
        "base": review.base,
        "tenants": {kind: review.count(kind) for kind in ("added", "changed", "removed")},
        "queues_lost": review.lost,
        "blocking": [_finding(finding) for finding in judgement.blocking],
        "accepted": [{**_finding(finding), "reason": entry.reason} for finding, entry in judgement.accepted],
        "unmatched": [entry.model_dump() for entry in judgement.unmatched],
        "spent": [entry.model_dump() for entry in judgement.spent],
        "notes": list(review.notes),
        "exit_status": review.exit_status,
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "guardrail": finding.guardrail.label,
        "tenant": finding.tenant,
        "object": finding.object,
        "message": finding.message,
    }


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Name a file that can") from error


def _write(wanted: Wanted, text: str) -> None:
    if wanted.full is None:
        return
    try:
        wanted.full.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidChoice(f"--full {str(wanted.full)!r} can't be written: {error.strerror}. Name another") from error
