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
