"""One run per stack: a lock of the kernel's, which ends with the process, and a note of who holds it."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kryonix.engines.local.errors import StateLocked
from kryonix.engines.local.state import now

__all__ = ["hold"]


@contextmanager
def hold(folder: Path, stack: str) -> Iterator[None]:
    """Hold the stack's lock. Raises `StateLocked` where another run does."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateLocked(_message(stack, folder / "lock")) from error
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(_holder()).encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


def _holder() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": _user(),
        "command": " ".join(sys.argv)[:200],
        "since": now(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _message(stack: str, path: Path) -> str:
    remedy = "Wait for it to end, or end it; the lock goes with the process, so there is nothing to remove."
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = (
            f"process {holder['pid']} on {holder['host']} (user {holder['user']}, since {holder['since']}): "
            f"{holder['command']}"
        )
    except (OSError, ValueError, KeyError):
        who = "another process, which has not said who it is yet"
    return f"The stack {stack!r} is in use by {who}\n{remedy}"
