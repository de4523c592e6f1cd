"""`kryonix plan --against`: show what a change does, and block it if a guardrail trips."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kryonix.cli.options import load_catalog, read_bytes
from kryonix.cli.output.review import print_tables, write_review
from kryonix.cli.plan import PlanOptions
from kryonix.errors import InvalidChoice
from kryonix.review.base.git import Repository, Revision
from kryonix.review.base.sides import Pair, Present, accepted_before, against_file, against_revision
from kryonix.review.differences import TenantDifference, differences, renamed
from kryonix.review.guardrails import Acceptance, Finding, Judgement, judge, parse_acceptances
from kryonix.review.plain_text import AddedLine, added_since, is_read, secrets_in
from kryonix.review.report import SHORTEST_REPORT, Review, markdown, refusal
from kryonix.review.rules import find, misfit
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import nearest
from kryonix.topology.tenants import Tenant, parse_tenants

# Files outside the expansion that also decide what is on the broker; only a preview shows what they change.
_NOT_REVIEWED: Final = ("__main__.py", "components", "Pulumi.yaml", "Pulumi.*.yaml")


@dataclass(frozen=True, slots=True)
class _Branch:
    """A revision, and the merge base with it: the revision to compare with."""

    named: Revision
    merge_base: Revision
    notes: tuple[str, ...]


_Base = Path | _Branch


def review_change(wanted: PlanOptions, against: str) -> int:
    """Show the differences from the base, and return the exit status. Raises InvalidInput for invalid input."""
    if wanted.limit < SHORTEST_REPORT:
        raise InvalidChoice(f"--limit {wanted.limit} is too small for a report (minimum: {SHORTEST_REPORT} bytes)")
    base = _base(wanted, against)
    try:
        catalog = load_catalog(wanted.catalog)
        tenants = parse_tenants(read_bytes(wanted.tenants), str(wanted.tenants), catalog)
        present = Present(wanted.tenants, wanted.catalog, tenants, catalog)
        review = _review(wanted, base, present)
    except InvalidChoice as error:
        if wanted.format == "markdown":
            _refuse(wanted, base, error)
        raise
    _show(wanted, review, present)
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


def _label(base: _Base) -> str:
    return str(base) if isinstance(base, Path) else base.merge_base.label


def _review(wanted: PlanOptions, base: _Base, present: Present) -> Review:
    guarded = isinstance(base, _Branch) if wanted.guard is None else wanted.guard
    if not guarded:
        expand_within_plans(present.tenants, present.catalog, str(wanted.tenants))
    if isinstance(base, Path):
        pair = against_file(str(base), read_bytes(base), present)
    else:
        pair = against_revision(base.merge_base, present)
        pair = replace(pair, notes=(*base.notes, *pair.notes, *_not_reviewed(base.merge_base)))
    if wanted.tenant is not None:
        pair = _of_one(wanted.tenant, pair, present.tenants)
    found = differences(pair.before, pair.after)
    misfits = list(_misfits(_only(wanted.tenant, present.tenants), present.catalog))
    judgement = _judge(wanted, base, found, misfits) if guarded else None
    notes = (*pair.notes, *renamed(found))
    return Review(_label(base), found, judgement, notes, fits=not misfits, complete=pair.complete)


def _judge(wanted: PlanOptions, base: _Base, found: Iterable[TenantDifference], misfits: list[Finding]) -> Judgement:
    findings = [finding for difference in found for finding in find(difference)] + misfits
    findings += dict.fromkeys(secrets_in(_added(wanted, base)))
    judgement = judge(findings, *_acceptances(wanted, base))
    # A review of one tenant can't judge the entries for others.
    return judgement if wanted.tenant is None else replace(judgement, unmatched=(), spent=())


def _misfits(tenants: Iterable[Tenant], catalog: Catalog) -> Iterator[Finding]:
    """Yield a finding for each tenant that doesn't fit its plan; each pair of modules and plan is tried once."""
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
        raise InvalidChoice(f"--tenant {tenant!r} is in neither list; {nearest(tenant, known)}")
    before, after = ([each for each in side if each.tenant.id == tenant] for side in (pair.before, pair.after))
    return replace(pair, before=before, after=after)


def _not_reviewed(base: Revision) -> Iterator[str]:
    if paths := base.changed(*_NOT_REVIEWED):
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        shown = ", ".join(f"'{path}'" for path in paths[:3]) + more
        yield f"{shown} changed too; only 'kryonix preview' shows what that does to the broker"


def _added(wanted: PlanOptions, base: _Base) -> Iterable[AddedLine]:
    if isinstance(base, _Branch):
        return base.merge_base.added_lines()
    name = wanted.tenants.name
    return added_since(read_bytes(base), read_bytes(wanted.tenants), name) if is_read(name) else ()


def _acceptances(wanted: PlanOptions, base: _Base) -> tuple[list[Acceptance], list[Acceptance]]:
    """Return the accepted changes of the work tree, and those of the base: they no longer count."""
    name = str(wanted.accepted)
    head = parse_acceptances(read_bytes(wanted.accepted), name) if wanted.accepted.exists() else []
    return head, accepted_before(wanted.accepted, (base.named, base.merge_base) if isinstance(base, _Branch) else ())


def _refuse(wanted: PlanOptions, base: _Base, error: Exception) -> None:
    problems = str(error).splitlines()
    if wanted.full is not None:
        _write(wanted.full, refusal(_label(base), problems))
    sys.stdout.write(refusal(_label(base), problems, limit=wanted.limit))


def _show(wanted: PlanOptions, review: Review, present: Present) -> None:
    if wanted.full is not None:
        _write(wanted.full, markdown(review))
    if wanted.format == "markdown":
        sys.stdout.write(markdown(review, limit=wanted.limit, full=str(wanted.full) if wanted.full else None))
    elif wanted.format == "json":
        write_review(review, _only(wanted.tenant, present.tenants), present.catalog)
    else:
        print_tables(review)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidChoice(f"--full {str(file)!r} can't be written: {error.strerror}. Give another file") from error
