"""The two sides of a review: the tenants as they are here, and as they were at the base."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import kryonix.topology
from kryonix.errors import InvalidChoice
from kryonix.review.base.base_code import BaseCodeError, running
from kryonix.review.base.expander import write_topology
from kryonix.review.base.git import Revision, blob_hash
from kryonix.review.portable import read_topology
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.errors import InvalidInput
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenants

__all__ = ["Pair", "Present", "against_file", "against_revision"]

_PACKAGE: Final = Path(kryonix.topology.__path__[0])


@dataclass(frozen=True, slots=True)
class Present:
    """The side that is here: the files, and what is in them."""

    tenants_file: Path
    catalog_file: Path | None
    """None: the catalog of the package."""
    tenants: list[Tenant]
    catalog: Catalog
    listed: Callable[[bytes], bytes] = bytes
    """What of the content of the file is the list of tenants."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The expansions of the tenants that may differ, and what a reader should know of how they were had."""

    before: list[Topology]
    after: list[Topology]
    notes: tuple[str, ...] = ()
    whole: bool = True
    """Whether all that differs is told; not where the base's code can't be run."""


@dataclass(frozen=True, slots=True)
class _Past:
    """What a revision has in place of the present files."""

    revision: Revision
    name: str
    tenants: bytes
    catalog: bytes | None
    """None: there is none in the repository, and it is the package's."""
    code: str | None
    """Where the repository has the code that runs now, where its code is another; else None."""


def against_file(file: str, content: bytes, present: Present) -> Pair:
    """The tenants of another list, by the same catalog and code."""
    return _by_present_code(parse_tenants(content, file, present.catalog), present.catalog, present)


def against_revision(revision: Revision, present: Present) -> Pair:
    """The tenants at a revision, by its own catalog and code where they differ from those here.

    A revision that can't be read was never applied: the latest one before it that can be is what there is now. Raises
    InvalidInput where none is, and InvalidChoice for files outside the repository.
    """
    try:
        return _pair(revision, present)
    except InvalidInput as error:
        why = f"{revision.label} can't be read ({error.problems[0]})"
        unreadable = error
    paths = [
        revision.repository.inside(file) for file in (present.tenants_file, present.catalog_file, _PACKAGE) if file
    ]
    for older in revision.earlier(*filter(None, paths)):
        try:
            pair = _pair(older, present)
        except InvalidInput:
            continue
        return replace(pair, notes=(f"{why}: compared with {older.label}, the latest that can be", *pair.notes))
    if revision.repository.is_shallow:
        raise unreadable
    return replace(_all_new(present, f"{why}, and nothing before it: every tenant is new"), whole=False)


def _pair(revision: Revision, present: Present) -> Pair:
    path = _inside(revision, present.tenants_file)
    tenants = revision.file(path)
    if tenants is None:
        return _all_new(present, f"{path} is not in {revision.label}: every tenant is new")
    catalog = _catalog_at(revision, present.catalog_file)
    past = _Past(revision, f"{path} at {revision.label}", present.listed(tenants), catalog, _other_code(revision))
    return _read(past, present) if past.code is None else _by_own_code(past, past.code, present)


def _all_new(present: Present, note: str) -> Pair:
    return Pair([], [expand(tenant, present.catalog) for tenant in present.tenants], (note,))


def _by_own_code(past: _Past, code: str, present: Present) -> Pair:
    try:
        with running(past.revision, code, past.tenants, past.catalog, past.name) as base:
            topologies = [expand(tenant, present.catalog) for tenant in present.tenants]
            after = [(topology, write_topology(topology)) for topology in topologies]
            return _differing(base.expansions(), after)
    except BaseCodeError as error:
        note = f"The code at {past.revision.label} can't be run here ({error}): what a change of code does is not told"
        pair = _read(past, present)
        return replace(pair, notes=(*pair.notes, note), whole=False)


def _differing(was: dict[str, str], after: Iterable[tuple[Topology, str]]) -> Pair:
    will = {topology.tenant.id: (topology, text) for topology, text in after}
    before = [read_topology(text) for name, text in was.items() if name not in will or will[name][1] != text]
    return Pair(before, [topology for name, (topology, text) in will.items() if was.get(name) != text])


def _read(past: _Past, present: Present) -> Pair:
    catalog = default_catalog() if past.catalog is None else parse_catalog(past.catalog, f"catalog of {past.name}")
    return _by_present_code(parse_tenants(past.tenants, past.name, catalog), catalog, present)


def _by_present_code(tenants: list[Tenant], catalog: Catalog, present: Present) -> Pair:
    """Equal tenants make equal things where what they have bought is equal: only the others are expanded."""
    was, will = {tenant.id: tenant for tenant in tenants}, {tenant.id: tenant for tenant in present.tenants}
    bought: dict[tuple[tuple[str, ...], str], bool] = {}
    for tenant in tenants:
        if (key := (tenant.modules, tenant.plan)) not in bought:
            bought[key] = catalog is present.catalog or _bought(tenant, catalog) == _bought(tenant, present.catalog)
    same = {
        name
        for name in was.keys() & will.keys()
        if was[name] == will[name] and bought[was[name].modules, was[name].plan]
    }
    return Pair(
        [expand(tenant, catalog) for tenant in tenants if tenant.id not in same],
        [expand(tenant, present.catalog) for tenant in present.tenants if tenant.id not in same],
    )


def _bought(tenant: Tenant, catalog: Catalog) -> Catalog:
    """A catalog with only what a tenant has of it."""
    modules = {name: catalog.modules.get(name) for name in tenant.modules}
    return catalog.model_copy(update={"modules": modules, "plans": {tenant.plan: catalog.plans.get(tenant.plan)}})


def _inside(revision: Revision, file: Path) -> str:
    path = revision.repository.inside(file)
    if path is None:
        top = str(revision.repository.top)
        raise InvalidChoice(f"{str(file)!r} is not in the repository {top!r}: name a file of it, or another --against")
    return path


def _catalog_at(revision: Revision, file: Path | None) -> bytes | None:
    """The catalog that the same command would have used at a revision."""
    inside = revision.repository.inside
    named, package = None if file is None else inside(file), inside(_PACKAGE / "catalog.yaml")
    if file is not None and named is None:
        return file.read_bytes()  # outside the repository: it has no past
    found = (revision.file(path) for path in (named, package) if path is not None)
    return next((content for content in found if content is not None), None)


def _other_code(revision: Revision) -> str | None:
    """Where a revision has the code that runs now, if its code is another. What was installed apart has no past."""
    folder = revision.repository.inside(_PACKAGE)
    there = {path: it for path, it in revision.hashes(folder).items() if path.endswith(".py")} if folder else {}
    here = {file.relative_to(_PACKAGE).as_posix(): file.read_bytes() for file in _PACKAGE.rglob("*.py")}
    length = len(revision.commit)
    same = there == {path: blob_hash(content, length) for path, content in here.items()}
    return None if same or not there else folder
