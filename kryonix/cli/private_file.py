"""Files with secrets: written for their owner only, whole or not at all."""

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
    """Raise InvalidChoice where a secret can't go: into what others may read, or what is no file of the user's own.

    A file that others may read is refused, not tightened: somebody set it up so that they read it.
    """
    try:
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(file, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidChoice(f"--output {str(file)!r} is not a regular file. Name a file, or leave --output out")
    if found.st_uid != os.geteuid():
        raise InvalidChoice(f"--output {str(file)!r} belongs to another user. Name a file of your own")
    if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
        problem = f"--output {str(file)!r} is there with mode {mode:03o}, so that others can read it"
        raise InvalidChoice(f"{problem}. Run `chmod 600 {file}`, or name another file")


def write_private(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with mode 600. The file is replaced in one step; what was there stays until then."""
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
    return InvalidChoice(f"--output {str(file)!r} can't be written: {error.strerror}. Name another file")
