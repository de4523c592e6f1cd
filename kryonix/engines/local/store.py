"""A stack's files: `checkpoint.json` and its backup, the journal of an unfinished run, and the lock.

The journal holds one JSON record a line, appended before the change it announces. A writer thread appends and syncs
the records gathered meanwhile: sixteen parallel changes share one sync.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from kryonix.engines.local.errors import InvalidProgramInput, ServiceUnavailable, StateCorrupt, StateLocked
from kryonix.engines.local.state import Record, State, now

CHECKPOINT, BACKUP, JOURNAL = "checkpoint.json", "checkpoint.json.bak", "journal.jsonl"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def state_root(project: Path) -> Path:
    """Return the folder of all stacks' state: KRYONIX_STATE_DIR, default `.kryonix/stacks` in the project."""
    override = os.environ.get("KRYONIX_STATE_DIR")
    return Path(override).absolute() if override else project / ".kryonix" / "stacks"


class Store:
    """Read and write one stack's state. Writing needs the stack's lock."""

    def __init__(self, root: Path, stack: str) -> None:
        if not stack or stack.startswith(".") or not all(c.isalnum() or c in "-_." for c in stack):
            raise InvalidProgramInput(
                f"{stack!r} is not a valid stack name: use letters, digits, hyphens, underscores and periods only."
            )
        self.folder = root / stack
        self.folded = True
        """True if the checkpoint alone, without the journal, is the loaded state."""
        self._stack = stack
        self._base = ""

    @property
    def exists(self) -> bool:
        """True if the stack has any state."""
        return (self.folder / CHECKPOINT).exists() or (self.folder / JOURNAL).exists()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and hold the stack's lock; it ends with the process. Raise `StateLocked`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ServiceUnavailable(
                f"The state folder {self.folder} can't be created: {error.strerror}. "
                "Make room for it, or set KRYONIX_STATE_DIR."
            ) from error
        path = self.folder / "lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateLocked(
                    f"The stack {self._stack!r} is in use by {_holder(path)}\n"
                    "Wait for it to end, or stop it; the lock goes with the process, so there is nothing to remove."
                ) from error
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(_this_process()).encode(), 0)
            yield
            os.ftruncate(file, 0)
        finally:
            os.close(file)

    def load(self) -> State:
        """Return the state of the last record on disk. Raise `StateCorrupt`."""
        for _ in range(5):
            data = self._checkpoint()
            base = "" if data is None else hashlib.sha256(data).hexdigest()
            records, salt = self._records(base)
            if self._checkpoint() == data:  # else another run folded its journal between the two reads
                break
        state = self._parse(data)
        try:
            for record in records:
                state.apply(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._unreadable_journal(error) from error
        state.salt = state.salt or salt
        self._base, self.folded = base, not records
        return state

    def save(self, state: State) -> None:
        """Write the checkpoint atomically, and remove the journal folded into it."""
        target, fresh = self.folder / CHECKPOINT, self.folder / f"{CHECKPOINT}.new"
        data = json.dumps(state.document(), indent=1).encode() + b"\n"
        file = os.open(fresh, _NEW_FILE, 0o600)
        try:
            _write(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        if target.exists():
            link = self.folder / f"{BACKUP}.new"
            link.unlink(missing_ok=True)
            os.link(target, link)
            link.replace(self.folder / BACKUP)
        fresh.replace(target)
        _sync_folder(self.folder)
        self.discard_journal()
        self._base, self.folded = hashlib.sha256(data).hexdigest(), True

    def journal(self, salt: str) -> Journal:
        """Start a journal on top of the checkpoint as loaded or saved."""
        return Journal(self.folder / JOURNAL, base=self._base, salt=salt)

    def discard_journal(self) -> None:
        """Remove the journal."""
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _checkpoint(self) -> bytes | None:
        path = self.folder / CHECKPOINT
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ServiceUnavailable(f"The state {path} can't be read: {error.strerror}.") from error

    def _parse(self, data: bytes | None) -> State:
        if data is None:
            return State()
        path = self.folder / CHECKPOINT
        try:
            document = json.loads(data)
        except ValueError as error:
            raise StateCorrupt(
                f"The state {path} is not JSON: {error}. Replace it by its backup, {self.folder / BACKUP}, then run "
                "`kryonix refresh`."
            ) from error
        return State.of_document(document, where=str(path))

    def _records(self, base: str) -> tuple[list[Record], str]:
        """Return the records on top of the checkpoint `base`, and the salt of their secrets.

        The journal of another checkpoint was folded into this one. A last line cut short by a crash announced a change
        that was never made.
        """
        try:
            data = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return [], ""
        lines = data.split(b"\n")[:-1]
        try:
            head, *records = [dict(json.loads(line)) for line in lines] or [{}]
        except (ValueError, TypeError) as error:
            raise self._unreadable_journal(error) from error
        return (records, head.get("salt", "")) if head.get("base") == base else ([], "")

    def _unreadable_journal(self, error: Exception) -> StateCorrupt:
        return StateCorrupt(
            f"The journal {self.folder / JOURNAL} can't be read: {error}. It records the changes of the last run. Move "
            "it aside only if the state may lose the resources of that run."
        )


class Journal:
    """A journal open for writing; `base` is the digest of its checkpoint."""

    def __init__(self, path: Path, *, base: str, salt: str) -> None:
        self._queue: SimpleQueue[tuple[bytes, Future[None]] | None] = SimpleQueue()
        self._file = os.open(path, _NEW_FILE, 0o600)
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        self._last = self.append({"journal": 1, "base": base, "salt": salt})
        self._last.result()
        _sync_folder(path.parent)

    def append(self, record: Record) -> Future[None]:
        """Write a record after all others. The future ends when the record is on disk, or could not be written."""
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

    def _run(self) -> None:
        failure: OSError | None = None
        done = False
        while not done:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            entries = [entry for entry in batch if entry is not None]
            done = len(entries) < len(batch)
            if failure is None and entries:
                try:
                    _write(self._file, b"".join(data for data, _ in entries))
                    os.fdatasync(self._file)
                except OSError as error:
                    failure = error
            for _, future in entries:
                future.set_exception(failure) if failure else future.set_result(None)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _this_process() -> Record:
    user = str(os.getuid())
    with suppress(KeyError, OSError):
        user = getpass.getuser()
    command = " ".join(sys.argv)[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "user": user, "command": command, "since": now()}


def _holder(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        return (
            f"process {holder['pid']} on {holder['host']} (user {holder['user']}, since {holder['since']}): "
            f"{holder['command']}"
        )
    except (OSError, ValueError, KeyError):
        return "another process, which has not written its name yet"
