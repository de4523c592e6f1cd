"""Write files with secrets: atomically, and readable by their owner only."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kryonix.errors import InvalidChoice

__all__ = ["check_target", "write_private"]


def check_target(file: Path) -> None:
    """Raise InvalidChoice if secrets can't be written there: only a regular file of the user, unreadable to others.

    A file readable by others is refused instead of tightened: somebody may rely on reading it.
    """
    try:
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(file, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidChoice(f"--output {str(file)!r} is not a regular file. Give a file, or omit --output")
    if found.st_uid != os.geteuid():
        raise InvalidChoice(f"--output {str(file)!r} belongs to another user. Give a file of your own")
    if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
        problem = f"--output {str(file)!r} exists with mode {mode:03o}: others can read it"
        raise InvalidChoice(f"{problem}. Run `chmod 600 {file}`, or give another file")


def write_private(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with mode 600, replacing the file atomically."""
    check_target(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 600, and new
    except OSError as error:
        raise _unwritable(file, error) from error
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump(content, opened, indent=2, ensure_ascii=False)
            opened.write("\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
    except OSError as error:
        raise _unwritable(file, error) from error
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def _unwritable(file: Path, error: OSError) -> InvalidChoice:
    return InvalidChoice(f"--output {str(file)!r} can't be written: {error.strerror}. Give another file")
