"""A platform without tenants, to measure on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.project import ROOT, Project


@contextmanager
def platform(**config: Any) -> Iterator[Project]:
    """Yield a broker and a registry with this config, and take them away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project.platform(Path(folder) / "project")
        project.configure(**config)
        (project.folder / ".venv").symlink_to(ROOT / ".venv")
        with project.running():
            yield project
