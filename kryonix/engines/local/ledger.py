"""The record of a run: every change goes into the state in memory and the journal on disk."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from threading import RLock
from typing import Literal

from kryonix.engines.local.errors import ServiceUnavailable
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import ASIDE, Record, State, key_of
from kryonix.engines.local.store import Journal, Store

OperationType = Literal["creating", "updating", "deleting"]


class Ledger:
    """The state as the run changes it. Without a store (a preview) nothing is written."""

    def __init__(self, state: State, vault: Vault, store: Store | None) -> None:
        self._before = state.copy()
        self._state = state
        self._vault = vault
        self._store = store
        self._journal: Journal | None = None
        self._lock = RLock()
        self._decoded: dict[str, Resource] = {}

    def begin(self, type_: OperationType, resources: Iterable[Resource]) -> None:
        """Record the start of operations, a create with its inputs; return once it is on disk."""
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
        """Record completed changes. They reach the disk before any later operation."""
        put = list(put)
        entries = [resource.encode(self._vault) for resource in put]
        record: Record = {"put": entries, "drop": list(drop), "end": list(end), "rename": [rename] if rename else []}
        with self._lock:
            self._append({name: value for name, value in record.items() if value}, wait=False)
            self._decoded |= {resource.key: resource for resource in put}  # in a preview, with its unknown values

    def keep(self, resource: Resource) -> None:
        """Record a resource without an operation; free if its entry is the same."""
        with self._lock:
            if self._state.resources.get(resource.key) == resource.encode(self._vault):
                return
        self.commit(put=[resource])

    def get(self, key: str) -> Resource | None:
        """Return a resource as the state has it now."""
        with self._lock:
            data = self._state.resources.get(key)
            if data is None:
                return None
            known = self._decoded.get(key)
            if known is None:
                known = self._decoded[key] = Resource.decode(data, self._vault)
            return known

    def keys(self) -> set[str]:
        """Return the keys of all resources, without decrypting any secret."""
        with self._lock:
            return set(self._state.resources)

    def all(self) -> list[Resource]:
        """Return all resources, including replaced ones not deleted yet."""
        with self._lock:
            return [resource for key in list(self._state.resources) if (resource := self.get(key))]

    def interrupted(self, key: str) -> tuple[OperationType, Resource | None] | None:
        """Return the unfinished operation of a resource; of a create, with the resource."""
        with self._lock:
            operation = self._state.operations.get(key)
            if operation is None:
                return None
            resource = operation.get("resource")
            return operation["type"], Resource.decode(resource, self._vault) if resource else None

    def interrupted_keys(self) -> list[str]:
        """Return the keys of all unfinished operations, except those set aside."""
        with self._lock:
            return [key for key in self._state.operations if ASIDE not in key]

    def set_aside(self, key: str, resource: Resource) -> None:
        """Move an interrupted create to a key of its own, to free the plain one for the next create of this URN."""
        with self._lock:
            aside = next(name for n in count(1) if (name := f"{key}{ASIDE}{n}") not in self._state.operations)
            operation = {"key": aside, "type": "creating", "resource": resource.encode(self._vault)}
            self._append({"begin": [operation], "end": [key]}, wait=True)

    def aside(self, key: str = "") -> dict[str, Resource]:
        """Return the creates set aside, of one URN or of all, oldest first."""
        with self._lock:
            return {
                name: Resource.decode(operation["resource"], self._vault)
                for name, operation in self._state.operations.items()
                if ASIDE in name and (not key or name.startswith(f"{key}{ASIDE}"))
            }

    def possibly_created(self) -> list[Resource]:
        """Return the resources of all interrupted creates."""
        with self._lock:
            found = [each["resource"] for each in self._state.operations.values() if each["type"] == "creating"]
            return [Resource.decode(data, self._vault) for data in found]

    def close(self) -> None:
        """Write the state if anything in it changed, and remove the journal."""
        if self._store is None:
            return
        with self._lock:
            if self._journal:
                self._journal.close()
            if self._state != self._before or not self._store.folded:
                self._state.salt = self._state.salt or self._vault.state
                self._store.save(self._state)
            elif self._journal:
                self._store.discard_journal()
            self._journal = None

    def _append(self, record: Record, *, wait: bool) -> None:
        try:
            with self._lock:
                self._state.apply(record)
                for key in (*(key_of(data) for data in record.get("put", ())), *record.get("drop", ())):
                    self._decoded.pop(key, None)
                if record.get("rename"):
                    self._decoded.clear()
                if self._store is None:
                    return
                if self._journal is None:
                    self._journal = self._start(self._store)
                number = self._journal.append(record)
            if wait:
                self._journal.sync(number)
        except OSError as error:
            raise ServiceUnavailable(
                f"The journal of the run can't be written, so nothing is changed: {error}"
            ) from error

    def _start(self, store: Store) -> Journal:
        if not store.folded:  # the last run was interrupted, and its journal must not be overwritten
            store.save(self._before)
        self._state.salt = self._state.salt or self._vault.state
        return store.journal(self._state.salt)
