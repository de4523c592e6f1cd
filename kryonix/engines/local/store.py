"""A stack's files: `checkpoint.json` and its backup, the journal of an unfinished run, and the lock.

The journal holds one JSON record a line, appended before the change it announces. Whoever waits for the disk syncs all
records written so far: sixteen parallel changes share one sync.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from kryonix.engines.local.errors import ServiceUnavailable, StateCorrupt, StateLocked
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import Record, State
from kryonix.engines.lock import Locked, exclusive
from kryonix.engines.workspace import check_name

CHECKPOINT, BACKUP, JOURNAL = "checkpoint.json", "checkpoint.json.bak", "journal.jsonl"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def state_root(project: Path) -> Path:
    """Return the folder of all stacks' state: KRYONIX_STATE_DIR, default `.kryonix/stacks` in the project."""
    override = os.environ.get("KRYONIX_STATE_DIR")
    return Path(override).absolute() if override else project / ".kryonix" / "stacks"


class Store:
    """Read and write one stack's state. Writing needs the stack's lock."""

    def __init__(self, root: Path, stack: str) -> None:
        check_name(stack)
        self.folder = root / stack
        self.folded = True
        """True if the checkpoint alone, without the journal, is the loaded state."""
        self._stack = stack
        self._base = ""

    @property
    def exists(self) -> bool:
        """True if the stack has any state."""
        return (self.folder / CHECKPOINT).exists() or (self.folder / JOURNAL).exists()

    @property
    def mark(self) -> str:
        """A text that changes whenever a state is written, without reading it; empty with none, or a journal."""
        try:
            found = (self.folder / CHECKPOINT).stat()
        except FileNotFoundError:
            return ""
        unfinished = (self.folder / JOURNAL).exists()
        return "" if unfinished else f"local {found.st_ino} {found.st_size} {found.st_mtime_ns}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and hold the stack's lock; it ends with the process. Raise `StateLocked`."""
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(self.folder / "lock"))
            except Locked as holder:
                raise StateLocked(
                    f"The stack {self._stack!r} is in use by {holder}\n"
                    "Wait for it to end, or stop it; the lock goes with the process, so there is nothing to remove."
                ) from holder
            except OSError as error:
                raise ServiceUnavailable(
                    f"The state folder {self.folder} can't be created or written: {error.strerror}. "
                    "Make room for it, run as the user to whom it belongs, or set KRYONIX_STATE_DIR."
                ) from error
            yield

    def load(self) -> State:
        """Return the state of the last record on disk. Raise `StateCorrupt`."""
        for _ in range(5):
            data = self._content(CHECKPOINT)
            base = "" if data is None else hashlib.sha256(data).hexdigest()
            records, salt = self._records(base)
            if self._content(CHECKPOINT) == data:  # else another run folded its journal between the two reads
                break
        state = self._parse(data)
        try:
            for record in records:
                state.apply(record)
            if records:
                state.check()
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
        if not (state.resources or state.operations):
            (self.folder / BACKUP).unlink(missing_ok=True)  # it has the secrets of what is gone
        elif target.exists():
            link = self.folder / f"{BACKUP}.new"
            link.unlink(missing_ok=True)
            os.link(target, link)
            link.replace(self.folder / BACKUP)
        fresh.replace(target)
        _sync_folder(self.folder)
        self.discard_journal()
        self._base, self.folded = hashlib.sha256(data).hexdigest(), True

    def vault(self, state: State) -> Vault:
        """Return the vault of the secrets in the state."""
        return Vault(state.salt, where=f"the state of stack {self._stack!r}")

    def journal(self, salt: str) -> Journal:
        """Start a journal on top of the checkpoint as loaded or saved."""
        return Journal(self.folder / JOURNAL, base=self._base, salt=salt)

    def discard_journal(self) -> None:
        """Remove the journal."""
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _content(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            remedy = "Run as the user to whom it belongs"
            raise ServiceUnavailable(f"The state {path} can't be read: {error.strerror}. {remedy}.") from error

    def _parse(self, data: bytes | None) -> State:
        if data is None:
            return State()
        path = self.folder / CHECKPOINT
        try:
            document = json.loads(data)
        except ValueError as error:
            backup = self.folder / BACKUP
            remedy = (
                f"Replace it by its backup, {backup}, then run `kryonix refresh`"
                if backup.exists()
                else "It has no backup. Replace it by a copy of your own, then run `kryonix refresh`"
            )
            raise StateCorrupt(f"The state {path} is not JSON: {error}. {remedy}.") from error
        return State.of_document(document, where=str(path))

    def _records(self, base: str) -> tuple[list[Record], str]:
        """Return the records on top of the checkpoint `base`, and the salt of their secrets.

        The journal of another checkpoint was folded into this one. A last line cut short by a crash announced a change
        that was never made.
        """
        data = self._content(JOURNAL)
        if data is None:
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
        self._file = os.open(path, _NEW_FILE, 0o600)
        self._writing, self._syncing = Lock(), Lock()
        self._written = self._synced = 0
        self._failure: OSError | None = None
        self.sync(self.append({"journal": 1, "base": base, "salt": salt}))
        _sync_folder(path.parent)

    def append(self, record: Record) -> int:
        """Write a record after all others, and return its number."""
        with self._writing, self._failing():
            _write(self._file, json.dumps(record, separators=(",", ":")).encode() + b"\n")
            self._written += 1
            return self._written

    def sync(self, number: int) -> None:
        """Return once the records up to a number are on disk."""
        with self._syncing, self._failing():
            if self._synced < number:
                written = self._written
                os.fdatasync(self._file)
                self._synced = written

    def close(self) -> None:
        """Wait until everything is on disk."""
        try:
            self.sync(self._written)
        finally:
            os.close(self._file)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Write nothing after a failure: the journal may end within a line."""
        if self._failure:
            raise self._failure
        try:
            yield
        except OSError as error:
            self._failure = error
            raise


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
