"""Run the base's own code on the base's tenants, in a process without secrets."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from kryonix.review.base import expander
from kryonix.review.base.git import Revision
from kryonix.topology.catalog import Limits
from kryonix.topology.errors import InvalidInput, Problem
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import KINDS, Permissions
from kryonix.topology.tenants import Tenant

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
    """Start a revision's code on a list of tenants, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="kryonix-base-") as made:
        root = Path(made)
        code = _write(revision, folder, root)
        (root / "tenants.yaml").write_bytes(tenants)
        (root / "catalog.yaml").write_bytes(catalog or b"")
        named = "-" if catalog is None else str(root / "catalog.yaml")
        base = BaseCode(root, _start(root, str(code), str(root / "tenants.yaml"), named), name)
        try:
            yield base
        finally:
            base.process.kill()
            base.process.wait()


def _write(revision: Revision, folder: str, root: Path) -> Path:
    package = folder.rpartition("/")[0]
    imported = (f"{package}/__init__.py", f"{package}/errors.py")
    try:
        revision.extract(root / "code", folder, *(path for path in imported if revision.file(path) is not None))
    except tarfile.TarError as error:
        raise BaseCodeError(f"it can't be unpacked: {error}") from error
    return root / "code" / folder.removesuffix(_CODE)


def _start(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    # Output goes to files, not pipes: the base works while this process does its own half. The environment is empty.
    with (root / "output").open("wb") as output, (root / "errors").open("wb") as errors:
        return subprocess.Popen(  # noqa: S603  our own script, by the interpreter that runs this
            [sys.executable, "-I", str(Path(expander.__file__)), *arguments],
            cwd=root,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )


def read_topology(text: str) -> Topology:
    """Return an expansion from the expander's text, unchecked: the base may know other modules and plans."""
    plain: dict[str, Any] = json.loads(text)
    tenant, types = plain["tenant"], get_type_hints(Topology)
    objects = {
        name: tuple(_known(get_args(types[name])[0], each) for each in plain.get(name, ()))
        for name in dict.fromkeys(kind.collection for kind in KINDS.values())
    }
    return Topology(
        tenant=Tenant.model_construct(**{**tenant, "modules": tuple(tenant["modules"])}),
        vhost=plain["vhost"],
        user=plain["user"],
        permissions=_known(Permissions, plain["permissions"]),
        limits=Limits.model_construct(**plain["limits"]),
        **objects,
    )


def _known(type_: Any, values: dict[str, Any]) -> Any:
    """Return a dataclass from its own fields: the base's may have others."""
    return type_(**{name: value for name, value in values.items() if name in type_.__slots__})
