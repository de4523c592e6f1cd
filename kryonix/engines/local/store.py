"""A stack's files: `checkpoint.json`, its backup, and the journal of a run that is under way or was cut off."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from kryonix.engines.local.errors import InvalidProgramInput, ServiceUnavailable, StateCorrupt
from kryonix.engines.local.journal import Journal, read_journal, unreadable
from kryonix.engines.local.state import Record, State

__all__ = ["Store", "state_root"]

CHECKPOINT, BACKUP, JOURNAL = "checkpoint.json", "checkpoint.json.bak", "journal.jsonl"


def state_root(project: Path) -> Path:
    """The folder with every stack's state: KRYONIX_STATE_DIR, else `.kryonix/stacks` in the project."""
    override = os.environ.get("KRYONIX_STATE_DIR")
    return Path(override).absolute() if override else project / ".kryonix" / "stacks"


class Store:
    """Reads and writes one stack's state. Writing needs the stack's lock; reading doesn't."""

    def __init__(self, root: Path, stack: str) -> None:
        if not stack or stack.startswith(".") or not all(c.isalnum() or c in "-_." for c in stack):
            raise InvalidProgramInput(
                f"The stack name {stack!r} can't be used: letters, digits, hyphens, underscores and periods only."
            )
        self.folder = root / stack
        self.stack = stack
        self._base = ""
        self._folded = True

    @property
    def exists(self) -> bool:
        """Whether the stack has any state."""
        return (self.folder / CHECKPOINT).exists() or (self.folder / JOURNAL).exists()

    def prepare(self) -> None:
        """Make the folder, for its owner only. Raises `ServiceUnavailable` where it can't be written in."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            remedy = "Make room for it there, or set KRYONIX_STATE_DIR"
            raise ServiceUnavailable(
                f"The state's folder {self.folder} can't be made: {error.strerror}. {remedy}."
            ) from error

    def load(self) -> State:
        """The state as of the last record that reached the disk."""
        for _ in range(5):
            data = self._checkpoint()
            base = "" if data is None else hashlib.sha256(data).hexdigest()
            records, salt = read_journal(self.folder / JOURNAL, base=base)
            if self._checkpoint() == data:  # else another run folded its journal between the two reads
                break
        state = self._parse(data)
        self._replay(records, state)
        state.salt = state.salt or salt
        self._base, self._folded = base, not records
        return state

    def save(self, state: State) -> None:
        """Write the state in one step and drop the journal, whose changes it holds."""
        target = self.folder / CHECKPOINT
        data = json.dumps(state.document(), indent=1).encode() + b"\n"
        fresh = self.folder / f"{CHECKPOINT}.new"
        _write(fresh, data)
        if target.exists():
            link = self.folder / f"{BACKUP}.new"
            link.unlink(missing_ok=True)
            os.link(target, link)
            link.replace(self.folder / BACKUP)
        fresh.replace(target)
        _sync(self.folder)
        self.discard_journal()
        self._base, self._folded = hashlib.sha256(data).hexdigest(), True

    @property
    def folded(self) -> bool:
        """Whether the checkpoint alone is the state that was loaded."""
        return self._folded

    def journal(self, salt: str) -> Journal:
        """A new journal on top of the checkpoint as loaded or saved."""
        return Journal(self.folder / JOURNAL, base=self._base, salt=salt)

    def discard_journal(self) -> None:
        """Remove a journal that has nothing to tell."""
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _checkpoint(self) -> bytes | None:
        try:
            return (self.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ServiceUnavailable(
                f"The state {self.folder / CHECKPOINT} can't be read: {error.strerror}."
            ) from error

    def _replay(self, records: list[Record], state: State) -> None:
        try:
            for record in records:
                state.apply(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise unreadable(self.folder / JOURNAL, error) from error

    def _parse(self, data: bytes | None) -> State:
        if data is None:
            return State()
        where = str(self.folder / CHECKPOINT)
        try:
            document = json.loads(data)
        except ValueError as error:
            remedy = f"The one before it is {self.folder / BACKUP}: copy it there, then run `kryonix refresh`"
            raise StateCorrupt(f"The state {where} is not JSON: {error}. {remedy}.") from error
        return State.of_document(document, where=where)


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
