"""The two sides of a review: the tenants as they are here, and as they were at the base."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import kryonix.topology
from kryonix.operations import review_expander
from kryonix.operations.errors import InvalidChoice
from kryonix.operations.review_expander import write_topology
from kryonix.operations.review_git import Revision, blob_hash
from kryonix.review.acceptance import Acceptance, parse_acceptances
from kryonix.review.portable import read_topology
from kryonix.topology.catalog import Catalog, parse_catalog
from kryonix.topology.errors import InvalidInput
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenants

__all__ = ["Pair", "Sources", "accepted_at", "against_file", "against_revision"]

_CODE: Final = "kryonix/topology"
_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a review is of; no catalog is the one of the package."""

    tenants: Path
    catalog: Path | None
    project: Path
    listed: Callable[[bytes], bytes] = bytes
    """What of the content of `tenants` is the list."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The expansions of the tenants that may differ, and what a reader should know of how they were had."""

    before: list[Topology]
    after: list[Topology]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Base:
    """The base's code at work, and the folder where it writes what it makes of the base's tenants."""

    folder: Path
    process: subprocess.Popen[bytes]

    def problem(self) -> str | None:
        """Wait for the end: None where all went well, else the reason."""
        try:
            status = self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it took more than {_SECONDS} s"
        said = (self.folder / "errors").read_text(errors="replace").strip().splitlines()
        return None if status == 0 else said[-1][:300] if said else f"exit status {status}"

    def lines(self) -> list[str]:
        return (self.folder / "output").read_text().splitlines()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def against_file(file: str, content: bytes, now: list[Tenant], catalog: Catalog) -> Pair:
    """The tenants of another list, by the same catalog and code."""
    return _same_code(parse_tenants(content, file, catalog), now, catalog)


def against_revision(revision: Revision, sources: Sources, now: list[Tenant], catalog: Catalog) -> Pair:
    """The tenants at a revision, by its own catalog and code where they differ from those here."""
    path = _inside(revision, sources.tenants)
    content = revision.file(path)
    if content is None:
        note = f"{path} is not in {revision.label}: every tenant is new"
        return Pair([], [expand(tenant, catalog) for tenant in now], (note,))
    content, name = sources.listed(content), f"{path} at {revision.label}"
    folder = _code_of(revision, sources.project)
    code, its_catalog = revision.hashes(folder), _catalog_of(revision, sources, folder)
    if its_catalog is None and _is_the_code_here(code, len(revision.commit)):
        return _same_code(parse_tenants(content, name, catalog), now, catalog)
    if not code:
        return _by_present_code(content, name, its_catalog, [expand(tenant, catalog) for tenant in now], catalog)
    explicit = its_catalog if sources.catalog is not None else None
    with tempfile.TemporaryDirectory(prefix="kryonix-base-") as made:
        base = _start(revision, folder, Path(made), content, explicit)
        try:
            texts = [(topology := expand(tenant, catalog), write_topology(topology)) for tenant in now]
            problem = base.problem()
            if problem is None:
                return _differing(base.lines(), texts)
        finally:
            base.stop()
    note = (
        f"The code at {revision.label} can't be run here ({problem}): its tenants and catalog are read by the "
        "present code, so what a change of code does is not shown"
    )
    return _by_present_code(content, name, its_catalog, [topology for topology, _ in texts], catalog, note)


def accepted_at(revision: Revision, file: Path) -> list[Acceptance]:
    """What an accepted-changes.yaml said at a revision: nothing where it was not there, or could not be read."""
    path = revision.repository.inside(file)
    content = revision.file(path) if path is not None else None
    try:
        return [] if content is None else parse_acceptances(content, file.name)
    except InvalidInput:
        return []  # it said yes to nothing, so no entry here has been used


def _same_code(before: list[Tenant], now: list[Tenant], catalog: Catalog) -> Pair:
    """Equal tenants make equal things under one catalog and one code: only the others are expanded."""
    was, will = {tenant.id: tenant for tenant in before}, {tenant.id: tenant for tenant in now}
    differing = {name for name in was.keys() | will.keys() if was.get(name) != will.get(name)}
    return Pair(
        [expand(tenant, catalog) for tenant in before if tenant.id in differing],
        [expand(tenant, catalog) for tenant in now if tenant.id in differing],
    )


def _differing(lines: Iterable[str], after: list[tuple[Topology, str]]) -> Pair:
    was: dict[str, str] = dict(line.split("\t", 1) for line in lines)
    will = {topology.tenant.id: text for topology, text in after}
    before = [read_topology(text) for name, text in was.items() if will.get(name) != text]
    return Pair(before, [topology for topology, text in after if was.get(topology.tenant.id) != text])


def _by_present_code(
    content: bytes, name: str, its_catalog: bytes | None, after: list[Topology], catalog: Catalog, *notes: str
) -> Pair:
    said, used = list(notes), catalog
    if its_catalog is not None:
        try:
            used = parse_catalog(its_catalog, "the base's catalog")
        except InvalidInput as error:
            said.append(f"The base's catalog can't be read either, the present one is used: {error.problems[0]}")
    return Pair([expand(tenant, used) for tenant in parse_tenants(content, name, used)], after, tuple(said))


def _inside(revision: Revision, file: Path) -> str:
    path = revision.repository.inside(file)
    if path is None:
        top = str(revision.repository.top)
        raise InvalidChoice(f"{str(file)!r} is not in the repository {top!r}: name a file of it, or another --against")
    return path


def _code_of(revision: Revision, project: Path) -> str:
    """Where the repository has the code: beside the list of tenants, as it is run."""
    prefix = revision.repository.inside(project / _CODE)
    return prefix if prefix is not None else _CODE


def _here(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.suffix in (".py", ".yaml"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def _is_the_code_here(theirs: dict[str, str], length: int) -> bool:
    """Whether a revision's code is the code that runs now; a repository without the code has no other."""
    wanted = {path: hash_ for path, hash_ in theirs.items() if path.endswith((".py", ".yaml"))}
    here = _here(Path(kryonix.topology.__path__[0]))
    return not wanted or wanted == {path: blob_hash(content, length) for path, content in here.items()}


def _catalog_of(revision: Revision, sources: Sources, folder: str) -> bytes | None:
    """The revision's catalog where it differs from the one in use: of the file that was named, or of the package."""
    if sources.catalog is None:
        content = revision.file(f"{folder}/catalog.yaml")
        return (
            None if content in (None, (Path(kryonix.topology.__path__[0]) / "catalog.yaml").read_bytes()) else content
        )
    path = revision.repository.inside(sources.catalog)
    content = revision.file(path) if path is not None else None
    return None if content in (None, sources.catalog.read_bytes()) else content


def _start(revision: Revision, folder: str, root: Path, tenants: bytes, catalog: bytes | None) -> _Base:
    """The base's code at work in a folder of its own and with an empty environment: it is given no secret."""
    package = f"{folder.rpartition('/')[0]}/__init__.py"
    revision.extract(root / "code", folder, *([package] if revision.file(package) is not None else []))
    (root / "tenants.yaml").write_bytes(tenants)
    (root / "catalog.yaml").write_bytes(catalog or b"")
    code = root / "code" / folder.removesuffix(_CODE)
    arguments = [str(code), str(root / "tenants.yaml"), "-" if catalog is None else str(root / "catalog.yaml")]
    # Into files, not pipes: it works while this process does its own half.
    with (root / "output").open("wb") as output, (root / "errors").open("wb") as errors:
        return _Base(
            root,
            subprocess.Popen(  # noqa: S603  our own script
                [sys.executable, "-I", str(Path(review_expander.__file__)), *arguments],
                cwd=root,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            ),  # fmt: skip
        )
