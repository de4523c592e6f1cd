"""A workspace of one operation's own: links to the project, and the config of the one stack that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from kryonix.engines.errors import Refused
from kryonix.engines.run_folder import run_folder
from kryonix.engines.spec import StackSpec

__all__ = ["check_name", "config_file", "workspace"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_OWN: Final = re.compile(r"Pulumi\..+\.ya?ml|\.git")
"""What a workspace does not take over: other stacks' config, and the history of the project."""


def check_name(stack: str) -> None:
    """Raise Refused for a name that can't be a stack's: it becomes a part of paths and URLs."""
    if not _NAME.fullmatch(stack):
        rule = "letters, digits, hyphens, underscores and periods, 100 at most"
        raise Refused(f"{stack[:80]!r} is no name of a stack: {rule}. Use another")


def config_file(folder: Path, stack: StackSpec) -> Path:
    """Write a stack's config into a folder."""
    file = folder / f"Pulumi.{stack.name}.yaml"
    file.write_text(yaml.safe_dump({"config": dict(stack.config)}, allow_unicode=True), encoding="utf-8")
    return file


@contextmanager
def workspace(project: Path, stack: StackSpec) -> Iterator[Path]:
    """A folder that is the project with the config of one stack, and goes at the end."""
    check_name(stack.name)
    with run_folder() as folder:
        for entry in project.iterdir():
            if not _OWN.fullmatch(entry.name):
                (folder / entry.name).symlink_to(entry.absolute())
        config_file(folder, stack)
        yield folder
