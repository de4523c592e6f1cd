"""The record of a run: every change goes through here, into the state in memory and the journal on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import count
from threading import RLock
from typing import Literal

from kryonix.engines.local.errors import LocalError, ServiceUnavailable
from kryonix.engines.local.journal import Journal
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import ASIDE, Record, State, key_of
from kryonix.engines.local.store import Store

__all__ = ["Ledger", "OperationType"]

OperationType = Literal["creating", "updating", "deleting"]


class Ledger:
    """State as the run finds it (`olds`) and as it becomes. Without a store (a preview) nothing is written down."""

    def __init__(self, state: State, vault: Vault, store: Store | None) -> None:
        self._before = state.copy()
        self._state = state
        self._vault = vault
        self._store = store
        self._journal: Journal | None = None
        self._lock = RLock()
        self._decoded: dict[str, Resource] = {}

    def begin(self, type_: OperationType, resources: Iterable[Resource]) -> None:
        """Note what is about to be done; returns once that is on disk. A create's inputs are noted with it."""
        operations = [
            {"key": r.key, "type": type_} | ({"resource": r.encode(self._vault)} if type_ == "creating" else {})
            for r in resources
        ]
        self._append({"begin": operations}, wait=True)

    def commit(
        self,
        *,
        put: Iterable[Resource] = (),
        drop: Iterable[str] = (),
        end: Iterable[str] = (),
        rename: tuple[str, str] | None = None,
    ) -> None:
        """Note what was done. It reaches the disk before anything begun later."""
        entries = [resource.encode(self._vault) for resource in put]
        record: Record = {"put": entries, "drop": list(drop), "end": list(end), "rename": [rename] if rename else []}
        self._append({name: value for name, value in record.items() if value}, wait=False)

    def keep(self, resource: Resource, *, rename: str = "") -> None:
        """Note a resource that nothing was done to; costs nothing where its entry is the one in state."""
        if not rename:
            with self._lock:
                if self._state.resources.get(resource.key) == resource.encode(self._vault):
                    return
        self.commit(put=[resource], drop=[rename] if rename else (), rename=(rename, resource.urn) if rename else None)

    def get(self, key: str) -> Resource | None:
        """The resource as state has it now."""
        with self._lock:
            data = self._state.resources.get(key)
            if data is None:
                return None
            known = self._decoded.get(key)
            if known is None:
                known = self._decoded[key] = Resource.decode(data, self._vault)
            return known

    def keys(self) -> set[str]:
        """The keys of every resource as state has it now, without opening any secret."""
        with self._lock:
            return set(self._state.resources)

    def all(self) -> list[Resource]:
        """Every resource as state has it now, replaced ones that still have to go included."""
        with self._lock:
            return [resource for key in list(self._state.resources) if (resource := self.get(key))]

    def interrupted(self, key: str) -> tuple[OperationType, Resource | None] | None:
        """An operation that was begun and never ended; for a create, with what was to be created."""
        with self._lock:
            operation = self._state.operations.get(key)
            if operation is None:
                return None
            resource = operation.get("resource")
            return operation["type"], Resource.decode(resource, self._vault) if resource else None

    def set_aside(self, key: str, begun: Resource) -> None:
        """Keep the note of a create under a key of its own, so that the next create of this URN has the plain one."""
        with self._lock:
            taken = self._state.operations.keys()
            aside = next(name for n in count(1) if (name := f"{key}{ASIDE}{n}") not in taken)
            operation = {"key": aside, "type": "creating", "resource": begun.encode(self._vault)}
            self._append({"begin": [operation], "end": [key]}, wait=True)

    def aside(self, key: str = "") -> dict[str, Resource]:
        """The creates that were set aside, of this URN or of all, the oldest first."""
        with self._lock:
            notes = {
                name: operation
                for name, operation in self._state.operations.items()
                if ASIDE in name and (not key or name.startswith(f"{key}{ASIDE}"))
            }
            return {name: Resource.decode(op["resource"], self._vault) for name, op in notes.items()}

    def interrupted_keys(self) -> list[str]:
        """Keys of all operations that were begun and never ended, but for those set aside."""
        with self._lock:
            return [key for key in self._state.operations if ASIDE not in key]

    def begun(self) -> list[Resource]:
        """What an earlier run began to create, and may have made."""
        with self._lock:
            notes = [self.interrupted(key) for key in self.interrupted_keys()]
            return [*(note[1] for note in notes if note and note[1]), *self.aside().values()]

    def close(self) -> None:
        """Write the state, where anything in it changed; then there is no journal any more."""
        if self._store is None:
            return
        with self._lock:
            if self._journal:
                self._journal.close()
            if not self._state.same_as(self._before) or not self._store.folded:
                self._state.salt = self._state.salt or self._vault.crypter.state
                self._store.save(self._state)
            elif self._journal:
                self._store.discard_journal()
            self._journal = None

    def abandon(self) -> None:
        """Leave the journal as it is, for the next run to replay: the state could not be written."""
        with suppress(OSError, LocalError):
            if self._journal:
                self._journal.close()

    def _append(self, record: Record, *, wait: bool) -> None:
        with self._lock:
            self._state.apply(record)
            for key in (*(key_of(data) for data in record.get("put", ())), *record.get("drop", ())):
                self._decoded.pop(key, None)
            for _ in record.get("rename", ()):
                self._decoded.clear()
            future = self._write(self._store, record) if self._store else None
        if wait and future:
            with _told_of_the_disk():
                future.result()

    def _write(self, store: Store, record: Record) -> Future[None]:
        with _told_of_the_disk():
            return self._open_journal(store).append(record)

    def _open_journal(self, store: Store) -> Journal:
        if self._journal is None:
            if not store.folded:  # the last run was cut off; its journal must not be overwritten
                store.save(self._before)
            self._state.salt = self._state.salt or self._vault.crypter.state
            self._journal = store.journal(self._state.salt)
        return self._journal


@contextmanager
def _told_of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceUnavailable(f"The journal of the run can't be written, so nothing is done: {error}") from error
