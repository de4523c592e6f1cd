"""Product: the image of this project, and the services of a platform that run from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from kryonix import __version__
from kryonix.topology.addresses import is_loopback
from kryonix.topology.cells import CELLS_FILE, parse_cells

IMAGE: Final = f"kryonix:{__version__}"
"""What scripts/images makes of this project, unless a stack names another image."""

_SOURCES: Final = (
    "Dockerfile",
    "Pulumi.yaml",
    "__main__.py",
    "components",
    "docs/runbooks.md",
    "kryonix",
    "requirements-production.txt",
)


@dataclass(frozen=True, kw_only=True)
class ProductSettings:
    """The image, and the signup service's published address. `monitored` and `signup` say what runs.

    `cells` is the content of the project's cells.yaml, empty without one.
    """

    image: str = IMAGE
    monitored: bool = False
    signup: bool = False
    address: str = "127.0.0.1"
    port: int = 8080
    cells: str = ""

    def problems(self, stack: str) -> list[str]:
        """Return what the service can't do: its worker reaches the broker of this stack only."""
        others = self.cells_elsewhere(stack)
        if not (self.signup and others):
            return []
        remedy = (
            "Run the web and a worker that reads every platform's stack instead (docs/signup-api.md, In production)"
        )
        return [f"kryonix:signup: {CELLS_FILE} has cells of other platforms: {', '.join(others)}. {remedy}"]

    def cells_elsewhere(self, stack: str) -> list[str]:
        """Return the cells of other platforms, which a container of this stack can't reach."""
        cells = parse_cells(self.cells.encode(), CELLS_FILE).cells if self.cells else {}
        return [name for name, cell in cells.items() if cell.stack != stack]

    @property
    def runs(self) -> bool:
        """Return True if a container of the image runs: the exporter serves both features."""
        return self.monitored or self.signup

    @property
    def exposed(self) -> bool:
        """Return True if other machines may reach the signup service."""
        return not is_loopback(self.address)

    @cached_property
    def source(self) -> str:
        """Return what the image is made from; empty for an image that somebody else makes.

        As a label it replaces the containers once the source has changed: the image's name stays the same.
        """
        return source_hash(Path(__file__).resolve().parents[1]) if self.image == IMAGE else ""


def source_hash(root: Path) -> str:
    """Return the hash of the files that the image is made from, as scripts/images computes it."""
    lines = "".join(f"{file.as_posix()} {_git_hash((root / file).read_bytes())}\n" for file in _sources(root))
    return _git_hash(lines.encode())[:16]


def _sources(root: Path) -> list[Path]:
    return sorted((file.relative_to(root) for name in _SOURCES for file in _files(root / name)), key=Path.as_posix)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir() and path.name != "__pycache__":
        for child in path.iterdir():
            yield from _files(child)


def _git_hash(content: bytes) -> str:
    """Return what `git hash-object` calls a file: scripts/images has no Python yet."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
