"""Temporary folders of runs, and those that killed processes left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["clear_abandoned", "run_folder"]

_PREFIX: Final = "kryonix-run-"
_LOCK: Final = ".kryonix-run"
"""A file that the folder's process holds locked. The kernel lets go of it however the process ends, and knows no
difference between containers, where a process id would be another's."""


@contextmanager
def run_folder() -> Iterator[Path]:
    """A folder that goes at the end of the block, or is taken away by `clear_abandoned` where no end comes."""
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

    A folder stays whose process lives, or in which another process still works, such as an engine whose parent was
    killed; so does one that is not this user's, or that `run_folder` has not made.
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
    """Whether a process works in the folder, or was started with a path in it."""
    name = str(folder.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            where = str((process / "cwd").readlink())
            if where == name or where.startswith(f"{name}/") or name.encode() in (process / "cmdline").read_bytes():
                return True
    return False
