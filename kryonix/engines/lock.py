"""A lock on a file, for one process of this machine. It goes with its process, and names it to others."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from kryonix.errors import KryonixError
from kryonix.topology.errors import printable


class Locked(KryonixError):
    """Another process holds the lock. The message describes it."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock for the block; its folders are made. Raises Locked at once if it is taken, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = path.read_text(encoding="utf-8", errors="replace")
            raise Locked(holder or "another process, which has not written its name yet") from error
        os.ftruncate(file, 0)
        os.pwrite(file, _this_process().encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


def _this_process() -> str:
    user = str(os.getuid())
    with suppress(KeyError, OSError):
        user = getpass.getuser()
    command, since = " ".join(sys.argv)[:200], f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return printable(f"process {os.getpid()} on {socket.gethostname()} (user {user}, since {since}): {command}")
