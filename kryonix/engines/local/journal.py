"""The append-only journal of a run: what was about to happen and what did, on disk before the next thing happens.

One JSON record a line. A writer thread appends and fsyncs whatever has gathered meanwhile, so sixteen changes in
parallel share one fsync.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from kryonix.engines.local.errors import StateCorrupt
from kryonix.engines.local.state import Record

__all__ = ["Journal", "read_journal", "unreadable"]

MODE = 0o600


class Journal:
    """A journal being written; `base` is the digest of the checkpoint that its records apply to."""

    def __init__(self, path: Path, *, base: str, salt: str) -> None:
        self._path = path
        self._queue: SimpleQueue[tuple[bytes, Future[None]] | None] = SimpleQueue()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
        self._last: Future[None] = Future()
        self._last.set_result(None)
        self._thread = Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()
        self.append({"journal": 1, "base": base, "salt": salt}).result()
        _sync_directory(path.parent)

    def append(self, record: Record) -> Future[None]:
        """Write a record after all before it. The future is done when it is on disk, and fails if it can't be."""
        future: Future[None] = Future()
        self._queue.put((json.dumps(record, separators=(",", ":")).encode() + b"\n", future))
        self._last = future
        return future

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)
        self._last.result()

    def _write(self) -> None:
        failure: OSError | None = None
        done = False
        while not done:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            entries = [entry for entry in batch if entry is not None]
            done = len(entries) < len(batch)
            if failure is None and entries:
                failure = self._flush(b"".join(data for data, _ in entries))
            for _, future in entries:
                future.set_exception(failure) if failure else future.set_result(None)

    def _flush(self, data: bytes) -> OSError | None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError as error:
            return error
        return None


def read_journal(path: Path, *, base: str) -> tuple[list[Record], str]:
    """The records to replay onto the checkpoint `base`, and the salt of their secrets.

    Nothing for a journal of another checkpoint: it was folded into the one at hand. A last line cut short by a crash
    was never acted upon and does not count.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], ""
    lines = data.split(b"\n")[:-1]
    try:
        head, *records = [dict(json.loads(line)) for line in lines] or [{}]
    except (ValueError, TypeError) as error:
        raise unreadable(path, error) from error
    return (records, head.get("salt", "")) if head.get("base") == base else ([], "")


def unreadable(path: Path, error: Exception) -> StateCorrupt:
    """The error for a journal that is none."""
    return StateCorrupt(
        f"The journal {path} can't be read: {error}. It holds what the last run did; keep it, and move it aside "
        "only if you accept that resources made by that run are not known to the state."
    )


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
