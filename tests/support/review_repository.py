"""A customer's git repository: tenants, the program's code, a base commit and a change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support import preloaded
from tests.support.project import ROOT, Result

CATALOG = "kryonix/topology/catalog.yaml"
PLACEHOLDER = "0123456789ab"
"""What stands in golden files for the first characters of a commit's id, which depends on all the code."""


class Repository:
    """A folder under git, in which the command is run with nothing of the caller's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = {"HOME": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
        who = {f"GIT_{role}_{part}": "t@example" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        self.env = {"PATH": os.environ["PATH"], "COLUMNS": "200", "NO_COLOR": "1", **home, **who}

    @classmethod
    def empty(cls, folder: Path) -> Repository:
        """A repository of tenants alone, by whom the installed command is used."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        made.git("init", "--quiet", "--initial-branch", "main")
        return made

    @classmethod
    def template(cls, folder: Path) -> Repository:
        """The program's code in a first commit, with its compiled files beside it."""
        made = cls.empty(folder)
        shutil.copytree(ROOT / "kryonix", folder / "kryonix", ignore=shutil.ignore_patterns("__pycache__"))
        made.write(".gitignore", "__pycache__/\nreport.md\n")
        made.commit("the code")
        assert made.kryonix("schema").returncode == 0
        return made

    def copy(self, folder: Path) -> Repository:
        shutil.copytree(self.folder, folder)
        return Repository(folder)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str = "a change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a text that has to be there."""
        content = self.read(name)
        assert old in content, f"{name} does not hold {old!r}"
        self.write(name, content.replace(old, new))

    def tenants(self, *tenants: dict[str, Any]) -> None:
        self.write("tenants.yaml", yaml.safe_dump({"tenants": list(tenants)}, sort_keys=False, width=200))

    def accept(self, *entries: dict[str, str]) -> None:
        self.write("accepted-changes.yaml", yaml.safe_dump({"accepted": list(entries)}, sort_keys=False))

    def kryonix(self, *arguments: str) -> Result:
        """Run the command by the repository's own code, whatever its exit status."""
        return preloaded.run(arguments, folder=self.folder, env=self.env)

    def review(self, *arguments: str, against: str = "base") -> Result:
        """The review of the change, as Markdown."""
        return self.kryonix("plan", "--against", against, "--format", "markdown", *arguments)

    def placeheld(self, report: str) -> str:
        """A report with the placeholder for every commit's id, and nothing else changed."""
        for commit in self.git("rev-list", "--all").split():
            report = report.replace(commit[:12], PLACEHOLDER)
        return report
