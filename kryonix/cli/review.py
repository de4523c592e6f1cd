"""`kryonix plan --against`: review a change, show it, and say by the exit status what holds it back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kryonix.cli.plan import PlanFormat
from kryonix.cli.review_display import print_tables, write_review
from kryonix.errors import InvalidChoice
from kryonix.review.acceptance import Acceptance, Judgement, judge, parse_acceptances
from kryonix.review.base.accepted import accepted_before
from kryonix.review.base.added_lines import added_lines, added_since
from kryonix.review.base.git import Repository, Revision
from kryonix.review.base.sides import Pair, Present, against_file, against_revision
from kryonix.review.differences import TenantDifference, differences, renamed
from kryonix.review.guardrails import Finding
from kryonix.review.markdown import SHORTEST_REPORT, markdown, refusal
from kryonix.review.plain_text import AddedLine, is_read, secrets_in
from kryonix.review.report import Review
from kryonix.review.rules import find, misfit
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.errors import TopologyError, nearest
from kryonix.topology.tenants import Tenant, parse_tenants

__all__ = ["Wanted", "review_change"]

# What makes something on the broker, and is not part of the expansion. A preview tells what a change of it does.
_ELSEWHERE: Final = ("__main__.py", "components", "Pulumi.yaml", "Pulumi.*.yaml")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    tenants: Path
    catalog: Path | None
    tenant: str | None
    against: str
    format: PlanFormat
    full: Path | None
    limit: int
    """The most bytes of Markdown."""
    accepted: Path
    guard: bool | None
    """Whether guardrails hold the change back; None for: where the base is a revision."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """A revision, and where the present work left it: that is what is compared with."""

    named: Revision
    left: Revision
    notes: tuple[str, ...]


_Base = Path | _Branch


def review_change(wanted: Wanted) -> int:
    """Show what differs from the base, and return the exit status. Raises TopologyError for what can't be accepted."""
    if wanted.limit < SHORTEST_REPORT:
        raise InvalidChoice(f"--limit {wanted.limit} is too little for a report. Give {SHORTEST_REPORT} bytes or more")
    base = _base(wanted)
    try:
        present = _present(wanted)
        review = _review(wanted, base, present)
    except (TopologyError, InvalidChoice) as error:
        if wanted.format is PlanFormat.markdown:
            _refuse(wanted, base, error)
        raise
    _show(wanted, review, present)
    return review.exit_status


def _base(wanted: Wanted) -> _Base:
    """The base: a file where there is one of that name, else a revision."""
    if "\0" in wanted.against or not wanted.against:
        raise InvalidChoice(f"--against {wanted.against!r} is no file and no revision. Name one")
    if Path(wanted.against).is_file():
        return Path(wanted.against)
    around = wanted.tenants.parent.resolve()
    repository = Repository.around(around)
    if repository is None:
        raise InvalidChoice(f"--against {wanted.against!r} is no file, and {str(around)!r} is in no git repository")
    named = repository.revision(wanted.against)
    left, note = named.forked()
    return _Branch(named, left, (note,) if note else ())


def _label(base: _Base) -> str:
    return str(base) if isinstance(base, Path) else base.left.label


def _present(wanted: Wanted) -> Present:
    catalog = default_catalog() if wanted.catalog is None else parse_catalog(_read(wanted.catalog), str(wanted.catalog))
    tenants = parse_tenants(_read(wanted.tenants), str(wanted.tenants), catalog)
    return Present(wanted.tenants, wanted.catalog, tenants, catalog)


def _review(wanted: Wanted, base: _Base, present: Present) -> Review:
    guarded = isinstance(base, _Branch) if wanted.guard is None else wanted.guard
    if not guarded:
        expand_within_plans(present.tenants, present.catalog, str(wanted.tenants))
    if isinstance(base, Path):
        pair = against_file(str(base), _read(base), present)
    else:
        pair = against_revision(base.left, present)
        pair = replace(pair, notes=(*base.notes, *pair.notes, *_elsewhere(base.left)))
    if wanted.tenant is not None:
        pair = _of_one(wanted.tenant, pair, present.tenants)
    found = differences(pair.before, pair.after)
    misfits = list(_misfits(_only(wanted.tenant, present.tenants), present.catalog))
    judgement = _judge(wanted, base, found, misfits) if guarded else None
    notes = (*pair.notes, *renamed(found))
    return Review(_label(base), found, judgement, notes, fits=not misfits, whole=pair.whole)


def _judge(wanted: Wanted, base: _Base, found: Iterable[TenantDifference], misfits: list[Finding]) -> Judgement:
    findings = [finding for difference in found for finding in find(difference)] + misfits
    findings += dict.fromkeys(secrets_in(_added(wanted, base)))
    judgement = judge(findings, *_acceptances(wanted, base))
    # A review of one tenant can't tell what the entries of others answer.
    return judgement if wanted.tenant is None else replace(judgement, unmatched=(), spent=())


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


def _only(tenant: str | None, tenants: list[Tenant]) -> list[Tenant]:
    return [each for each in tenants if tenant in (None, each.id)]


def _of_one(tenant: str, pair: Pair, now: list[Tenant]) -> Pair:
    known = dict.fromkeys([*(each.id for each in now), *(each.tenant.id for each in pair.before)])
    if tenant not in known:
        raise InvalidChoice(f"--tenant {tenant!r} is not in the list; {nearest(tenant, known)}")
    before, after = ([each for each in side if each.tenant.id == tenant] for side in (pair.before, pair.after))
    return replace(pair, before=before, after=after)


def _elsewhere(base: Revision) -> Iterator[str]:
    if paths := base.changed(*_ELSEWHERE):
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        shown = ", ".join(f"'{path}'" for path in paths[:3]) + more
        yield f"{shown} changed too: what that does to the broker is told by 'kryonix preview', not here"


def _added(wanted: Wanted, base: _Base) -> Iterable[AddedLine]:
    if isinstance(base, _Branch):
        return added_lines(base.left)
    name = wanted.tenants.name
    return added_since(_read(base), _read(wanted.tenants), name) if is_read(name) else ()


def _acceptances(wanted: Wanted, base: _Base) -> tuple[list[Acceptance], list[Acceptance]]:
    """The entries here, and those of the base, which count no more."""
    name = str(wanted.accepted)
    head = parse_acceptances(_read(wanted.accepted), name) if wanted.accepted.exists() else []
    return head, accepted_before(wanted.accepted, (base.named, base.left) if isinstance(base, _Branch) else ())


def _refuse(wanted: Wanted, base: _Base, error: Exception) -> None:
    problems = str(error).splitlines()
    if wanted.full is not None:
        _write(wanted.full, refusal(_label(base), problems))
    sys.stdout.write(refusal(_label(base), problems, limit=wanted.limit))


def _show(wanted: Wanted, review: Review, present: Present) -> None:
    if wanted.full is not None:
        _write(wanted.full, markdown(review))
    if wanted.format is PlanFormat.markdown:
        sys.stdout.write(markdown(review, limit=wanted.limit, full=str(wanted.full) if wanted.full else None))
    elif wanted.format is PlanFormat.json:
        write_review(review, _only(wanted.tenant, present.tenants), present.catalog)
    else:
        print_tables(review)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Name a file that can") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidChoice(f"--full {str(file)!r} can't be written: {error.strerror}. Name another") from error
