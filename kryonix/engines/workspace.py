"""The temporary folders of operations: the project with the config of one stack, and what killed processes leave."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import yaml

from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import Refused

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_OWN: Final = re.compile(r"Pulumi\..+\.ya?ml|\.git")
"""Entries of the project that a workspace does not link: config of stacks, and the history."""
_PREFIX: Final = "kryonix-run-"
_LOCK: Final = ".kryonix-run"
"""A file that the folder's process holds locked. The kernel unlocks it however the process ends; a process id could
be another process's in another container."""


def check_name(stack: str) -> None:
    """Raise Refused if a name is not valid for a stack: it becomes part of paths and URLs."""
    if not _NAME.fullmatch(stack):
        rule = "letters, digits, hyphens, underscores and periods, 100 at most"
        raise Refused(f"{stack[:80]!r} is not a valid stack name ({rule})")


def config_file(folder: Path, stack: StackSpec) -> Path:
    """Write a stack's config into a folder."""
    file = folder / f"Pulumi.{stack.name}.yaml"
    file.write_text(yaml.safe_dump({"config": dict(stack.config or {})}, allow_unicode=True), encoding="utf-8")
    return file


@contextmanager
def workspace(project: Path, stack: StackSpec) -> Iterator[Path]:
    """Yield a temporary folder with links to the project and the config of one stack."""
    check_name(stack.name)
    with run_folder() as folder:
        for entry in project.iterdir():
            if not _OWN.fullmatch(entry.name):
                (folder / entry.name).symlink_to(entry.absolute())
        config_file(folder, stack)
        yield folder


@contextmanager
def run_folder() -> Iterator[Path]:
    """Yield a temporary folder, which `clear_abandoned` removes if this process is killed."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        lock = os.open(folder / f"{_LOCK}.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{_LOCK}.new").rename(folder / _LOCK)  # never there without being held
            yield folder
        finally:
            os.close(lock)


def clear_abandoned() -> list[Path]:
    """Remove the folders of processes that have ended, and return them.

    Keep a folder that a living process holds or works in (an engine outlives a killed parent), and any folder of
    another user or not from `run_folder`.
    """
    return [folder for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _cleared(folder)]


def _cleared(folder: Path) -> bool:
    with suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return False
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its process lives
            if _used(folder):
                return False
            shutil.rmtree(folder)
        finally:
            os.close(lock)
        return True
    return False


def _used(folder: Path) -> bool:
    """Return True if a process works in the folder, or was started with a path in it."""
    name = str(folder.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            where = str((process / "cwd").readlink())
            if where == name or where.startswith(f"{name}/") or name.encode() in (process / "cmdline").read_bytes():
                return True
    return False
