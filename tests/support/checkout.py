"""A repository as CI checks it out, with a base commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.project import ROOT, Project

__all__ = ["Checkout"]


class Checkout:
    """A project in a git repository with the scripts beside it, which find a `.venv` that is up to date."""

    def __init__(self, project: Project) -> None:
        self.project, self.folder = project, project.folder
        (self.folder / ".gitignore").write_text(".venv\n.kryonix/\n__pycache__/\n")
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        shutil.copytree(ROOT / "policy", self.folder / "policy", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        (self.folder / "scripts" / "setup").write_text("#!/bin/sh\n")  # the real one would make that .venv its own
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def commit(self) -> str:
        """Commit everything, and return the commit."""
        self._git("add", "--all")
        self._git(
            "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--allow-empty", "-m", "x"
        )
        return self._git("rev-parse", "HEAD")

    def script(self, name: str, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts, as a step of a workflow does."""
        return subprocess.run(
            [f"scripts/{name}", *arguments],
            cwd=self.folder,
            env=self.project.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=Path(self.folder), check=True, capture_output=True, text=True)
        return done.stdout.strip()
