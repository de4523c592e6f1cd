"""The two sides of a review: the tenants as they are here, and as they were at the base, by the base's own code."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import kryonix.topology
from kryonix.errors import InvalidChoice
from kryonix.review.base import expander
from kryonix.review.base.expander import write_topology
from kryonix.review.base.git import Revision
from kryonix.review.guardrails import Acceptance, parse_acceptances
from kryonix.topology.catalog import Catalog, Limits, default_catalog, parse_catalog
from kryonix.topology.errors import InvalidInput, Problem
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.notify import Notify
from kryonix.topology.objects import KINDS, Permissions
from kryonix.topology.tenants import Tenant, parse_tenants

_CODE: Final = "kryonix/topology"
_SECONDS: Final = 300


class BaseCodeError(Exception):
    """The base's code can't be run here, for example because a library is no longer installed."""


@dataclass(frozen=True, slots=True)
class BaseCode:
    """The running process, and the folder with its output."""

    folder: Path
    process: subprocess.Popen[bytes]
    name: str

    def expansions(self) -> dict[str, str]:
        """Wait for the process, and return every tenant's expansion as text.

        Raises InvalidInput for tenants or a catalog invalid at the base too, BaseCodeError if it failed.
        """
        try:
            status = self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BaseCodeError(f"it took more than {_SECONDS} s") from error
        errors = (self.folder / "errors").read_text(errors="replace").strip().splitlines()
        if status == InvalidInput.exit_status and errors:
            raise InvalidInput([Problem(self.name, None, "", line) for line in errors])
        if status:
            raise BaseCodeError(errors[-1][:300] if errors else f"exit status {status}")
        lines = (self.folder / "output").read_text().splitlines()
        return dict(line.split("\t", 1) for line in lines)


@contextmanager
def running(revision: Revision, folder: str, tenants: bytes, catalog: bytes | None, name: str) -> Iterator[BaseCode]:
    """Start a revision's code on a list of tenants, in a temporary folder. Raises BaseCodeError."""
    package = folder.rpartition("/")[0]
    imported = [path for path in (f"{package}/__init__.py", f"{package}/errors.py") if revision.file(path) is not None]
    with tempfile.TemporaryDirectory(prefix="kryonix-base-") as made:
        root = Path(made)
        try:
            revision.extract(root / "code", folder, *imported)
        except tarfile.TarError as error:
            raise BaseCodeError(f"it can't be unpacked: {error}") from error
        (root / "tenants.yaml").write_bytes(tenants)
        (root / "catalog.yaml").write_bytes(catalog or b"")
        # Output goes to files, not pipes: the base works while this process does its own half. It has no environment.
        with (root / "output").open("wb") as output, (root / "errors").open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603  our own script, by the interpreter that runs this
                [
                    *(sys.executable, "-I", str(Path(expander.__file__))),
                    str(root / "code" / folder.removesuffix(_CODE)),
                    str(root / "tenants.yaml"),
                    "-" if catalog is None else str(root / "catalog.yaml"),
                ],
                cwd=root,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        try:
            yield BaseCode(root, process, name)
        finally:
            process.kill()
            process.wait()


def read_topology(text: str) -> Topology:
    """Return an expansion from the expander's text, unchecked: the base may know other modules and plans."""
    plain: dict[str, Any] = json.loads(text)
    tenant, types = plain["tenant"], get_type_hints(Topology)
    objects = {
        name: tuple(_known(get_args(types[name])[0], each) for each in plain.get(name, ()))
        for name in dict.fromkeys(kind.collection for kind in KINDS.values())
    }
    return Topology(
        tenant=Tenant.model_construct(
            **{**tenant, "modules": tuple(tenant["modules"]), "notify": Notify.stored(tenant.get("notify"))}
        ),
        vhost=plain["vhost"],
        user=plain["user"],
        permissions=_known(Permissions, plain["permissions"]),
        limits=Limits.model_construct(**plain["limits"]),
        **objects,
    )


def _known(type_: Any, values: dict[str, Any]) -> Any:
    """Return a dataclass from its own fields: the base's may have others."""
    return type_(**{name: value for name, value in values.items() if name in type_.__slots__})


_PACKAGE: Final = Path(kryonix.topology.__path__[0])


@dataclass(frozen=True, slots=True)
class Present:
    """The present side: the files and their content."""

    tenants_file: Path
    catalog_file: Path | None
    """None: the catalog of the package."""
    tenants: list[Tenant]
    catalog: Catalog
    extract: Callable[[bytes], bytes] = bytes
    """Return the list of tenants in the file's content."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The expansions of all possibly different tenants, and notes for the reader."""

    before: list[Topology]
    after: list[Topology]
    notes: tuple[str, ...] = ()
    complete: bool = True
    """False if differences may be missing: the base's code can't be run."""


def against_file(file: str, content: bytes, present: Present) -> Pair:
    """Compare with another list of tenants, by the same catalog and code."""
    return _by_present_code(parse_tenants(content, file, present.catalog), present.catalog, present)


def against_revision(revision: Revision, present: Present) -> Pair:
    """Compare with the tenants at a revision, by its own catalog and code if they differ from the present ones.

    An unreadable revision was never applied: the latest readable one before it is compared. Raises InvalidInput if a
    shallow clone has none, and InvalidChoice for files outside the repository.
    """
    try:
        return _pair(revision, present)
    except InvalidInput as error:
        why = f"{revision.label} can't be read ({error.problems[0]})"
        unreadable = error
    files = (present.tenants_file, present.catalog_file, _PACKAGE)
    paths = [revision.repository.relative_path(file) for file in files if file]
    for older in revision.earlier(*filter(None, paths)):
        try:
            pair = _pair(older, present)
        except InvalidInput:
            continue
        return replace(pair, notes=(f"{why}: compared with {older.label}, the latest readable revision", *pair.notes))
    if revision.repository.is_shallow:
        raise unreadable
    return replace(_all_new(present, f"{why}, nor any revision before it: every tenant is new"), complete=False)


def accepted_before(file: Path, revisions: Iterable[Revision]) -> list[Acceptance]:
    """Return the entries of an accepted-changes.yaml at these revisions. They accept nothing any more."""
    earlier: list[Acceptance] = []
    for revision in revisions:
        path = revision.repository.relative_path(file)
        content = revision.file(path) if path is not None else None
        try:
            earlier += parse_acceptances(content, file.name) if content is not None else []
        except InvalidInput:
            continue  # an unreadable file has accepted nothing, so none of its entries is used up
    return earlier


def _pair(revision: Revision, present: Present) -> Pair:
    path = revision.repository.relative_path(present.tenants_file)
    if path is None:
        file, top = str(present.tenants_file), str(revision.repository.top)
        raise InvalidChoice(f"{file!r} is not in the repository {top!r}. Name a file in it, or another --against")
    tenants = revision.file(path)
    if tenants is None:
        return _all_new(present, f"{path} is not in {revision.label}: every tenant is new")
    tenants, catalog_text = present.extract(tenants), _catalog_at(revision, present.catalog_file)
    name, failed = f"{path} at {revision.label}", ""
    if (folder := _other_code(revision)) is not None:
        try:
            with running(revision, folder, tenants, catalog_text, name) as base:
                return _by_base_code(base, present)
        except BaseCodeError as error:
            failed = f"The code at {revision.label} can't be run here ({error}): code changes are not compared"
    catalog = default_catalog() if catalog_text is None else parse_catalog(catalog_text, f"catalog of {name}")
    pair = _by_present_code(parse_tenants(tenants, name, catalog), catalog, present)
    return replace(pair, notes=(failed,), complete=False) if failed else pair


def _by_base_code(base: BaseCode, present: Present) -> Pair:
    """Expand with the present code while the base's runs."""
    topologies = [expand(tenant, present.catalog) for tenant in present.tenants]
    now = {topology.tenant.id: (topology, write_topology(topology)) for topology in topologies}
    was = base.expansions()
    before = [read_topology(text) for name, text in was.items() if name not in now or now[name][1] != text]
    return Pair(before, [topology for name, (topology, text) in now.items() if was.get(name) != text])


def _all_new(present: Present, note: str) -> Pair:
    return Pair([], [expand(tenant, present.catalog) for tenant in present.tenants], (note,))


def _by_present_code(tenants: list[Tenant], catalog: Catalog, present: Present) -> Pair:
    """Expand only changed tenants, and those with other modules or plans in the two catalogs."""
    was, now = {tenant.id: tenant for tenant in tenants}, {tenant.id: tenant for tenant in present.tenants}
    bought: dict[tuple[tuple[str, ...], str], bool] = {}
    for tenant in tenants:
        if (key := (tenant.modules, tenant.plan)) not in bought:
            bought[key] = catalog is present.catalog or _bought(tenant, catalog) == _bought(tenant, present.catalog)
    same = {
        name for name in was.keys() & now.keys() if was[name] == now[name] and bought[was[name].modules, was[name].plan]
    }
    return Pair(
        [expand(tenant, catalog) for tenant in tenants if tenant.id not in same],
        [expand(tenant, present.catalog) for tenant in present.tenants if tenant.id not in same],
    )


def _bought(tenant: Tenant, catalog: Catalog) -> Catalog:
    """Return a catalog with only a tenant's modules and plan."""
    modules = {name: catalog.modules.get(name) for name in tenant.modules}
    return catalog.model_copy(update={"modules": modules, "plans": {tenant.plan: catalog.plans.get(tenant.plan)}})


def _catalog_at(revision: Revision, file: Path | None) -> bytes | None:
    """Return the same command's catalog at a revision."""
    path = revision.repository.relative_path
    named, package = None if file is None else path(file), path(_PACKAGE / "catalog.yaml")
    if file is not None and named is None:
        return file.read_bytes()  # outside the repository: it has no past
    found = (revision.file(each) for each in (named, package) if each is not None)
    return next((content for content in found if content is not None), None)


def _other_code(revision: Revision) -> str | None:
    """Return the folder of a revision's topology code if it differs from the present code, else None.

    An installed package outside the repository has no past.
    """
    folder = revision.repository.relative_path(_PACKAGE)
    if folder is None or revision.file(f"{folder}/__init__.py") is None:
        return None
    code = f":(literal){folder}"
    differs = any(path.endswith(".py") for path in (*revision.changed(code), *revision.untracked(code)))
    return folder if differs else None
