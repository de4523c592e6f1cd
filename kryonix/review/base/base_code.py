"""The base's own code at work: what it makes of the base's tenants, in a process that is given no secret."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kryonix.review.base import expander
from kryonix.review.base.git import Revision
from kryonix.topology.errors import InvalidInput, Problem

__all__ = ["BaseCodeError", "Running", "running"]

_CODE: Final = "kryonix/topology"
_SECONDS: Final = 300


class BaseCodeError(Exception):
    """The base's code can't be run here, as where it needs a library that is not installed any more."""


@dataclass(frozen=True, slots=True)
class Running:
    """The process, and the folder that its output goes to."""

    folder: Path
    process: subprocess.Popen[bytes]
    name: str

    def expansions(self) -> dict[str, str]:
        """Every tenant's expansion as text, once the process has ended.

        Raises InvalidInput for tenants or a catalog that the base itself did not accept, BaseCodeError where it failed.
        """
        try:
            status = self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BaseCodeError(f"it took more than {_SECONDS} s") from error
        said = (self.folder / "errors").read_text(errors="replace").strip().splitlines()
        if status == InvalidInput.exit_status and said:
            raise InvalidInput([Problem(self.name, None, "", line) for line in said])
        if status:
            raise BaseCodeError(said[-1][:300] if said else f"exit status {status}")
        lines = (self.folder / "output").read_text().splitlines()
        return dict(line.split("\t", 1) for line in lines)


@contextmanager
def running(revision: Revision, folder: str, tenants: bytes, catalog: bytes | None, name: str) -> Iterator[Running]:
    """Start a revision's code on a list of tenants. It works in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="kryonix-base-") as made:
        root = Path(made)
        code = _write(revision, folder, root)
        (root / "tenants.yaml").write_bytes(tenants)
        (root / "catalog.yaml").write_bytes(catalog or b"")
        named = "-" if catalog is None else str(root / "catalog.yaml")
        base = Running(root, _start(root, str(code), str(root / "tenants.yaml"), named), name)
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
