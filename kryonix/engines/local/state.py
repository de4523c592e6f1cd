"""A stack's state in memory: Pulumi's deployment format, version 3, as JSON values.

State changes by `apply` only, record by record of the journal: a replayed journal gives the same state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from typing import Any, Final

from kryonix.engines.deployments import needs, with_references
from kryonix.engines.local.errors import StateCorrupt

FORMAT: Final = 3
ASIDE: Final = "#aside-"
"""Between a URN and a number: the key of an interrupted create, set aside with the inputs it had."""

Record = dict[str, Any]


def now() -> str:
    """Return the time as the deployment format writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class State:
    """Resources by key, in order, unfinished operations, and the salt and verifier of the secrets."""

    resources: dict[str, Record] = field(default_factory=dict)
    operations: dict[str, Record] = field(default_factory=dict)
    salt: str = ""

    @classmethod
    def of_document(cls, document: Any, *, where: str) -> State:
        """Read a deployment, written by `document` or by `pulumi stack export`. Raise `StateCorrupt`."""
        state = cls()
        try:
            if document["version"] != FORMAT:
                raise StateCorrupt(
                    f"{where} has deployment format {document['version']!r}; this engine reads {FORMAT}. "
                    "Export it with the Pulumi CLI version in the project's requirements."
                )
            state._read(document["deployment"] or {}, where)
            state.check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StateCorrupt(f"{where} is not a deployment: {type(error).__name__} {error}.") from error
        return state

    def _read(self, deployment: Record, where: str) -> None:
        provider = deployment.get("secrets_providers") or {}
        if provider and provider["type"] != "passphrase":
            raise StateCorrupt(
                f"{where} uses the secrets provider {provider['type']!r}; this engine supports `passphrase` only. "
                "Change it first: pulumi stack change-secrets-provider passphrase"
            )
        self.salt = (provider.get("state") or {}).get("salt", "")
        for resource in deployment.get("resources") or ():
            if not str(resource["urn"]).startswith("urn:pulumi:"):
                raise ValueError(f"{resource['urn']!r} is not a URN")
            self.resources[key_of(resource)] = resource
        for operation in deployment.get("pending_operations") or ():
            resource = operation["resource"]
            key = operation.get("key") or key_of(resource)
            self.operations[key] = {"type": operation["type"], "resource": resource}

    def check(self) -> None:
        """Raise what a field of a wrong type causes."""
        for data in self.resources.values():
            frozenset((data["urn"], data["type"], *needs(data)))
            dict(data.get("outputs") or {})
        for key in self.operations:
            key.partition(ASIDE)

    def apply(self, record: Record) -> None:
        """Apply one record of the journal: rename, drop, put, begin, end, in this order."""
        for old, new in record.get("rename", ()):
            for key, data in self.resources.items():
                if key != old and old in needs(data):
                    self.resources[key] = with_references(data, {old: new})
        for key in record.get("drop", ()):
            self.resources.pop(key, None)
        for data in record.get("put", ()):
            self.resources[key_of(data)] = data
        for operation in record.get("begin", ()):
            self.operations[operation["key"]] = {"type": operation["type"], "resource": operation.get("resource")}
        for key in record.get("end", ()):
            self.operations.pop(key, None)

    def document(self) -> Record:
        """Return the state as `pulumi stack export` prints it."""
        engine = f"v{version('pulumi')}"
        magic = hashlib.sha256(engine.encode()).hexdigest()
        deployment: Record = {"manifest": {"time": now(), "magic": magic, "version": engine}}
        if self.salt:
            deployment["secrets_providers"] = {"type": "passphrase", "state": {"salt": self.salt}}
        if self.resources:
            deployment["resources"] = self._ordered()
        operations = [
            {"resource": operation["resource"] or self.resources.get(key), "type": operation["type"]}
            | ({"key": key} if ASIDE in key else {})  # the Pulumi CLI ignores it
            for key, operation in self.operations.items()
        ]
        if operations := [operation for operation in operations if operation["resource"]]:
            deployment["pending_operations"] = operations
        deployment["metadata"] = {}
        return {"version": FORMAT, "deployment": deployment}

    def copy(self) -> State:
        """Return an independent state. Entries are shared: they are replaced, never changed."""
        return State(dict(self.resources), dict(self.operations), self.salt)

    def _ordered(self) -> list[Record]:
        """Return resources after those they need, as the Pulumi CLI requires, without dangling references.

        A reference to a missing provider stays: without it another run would call the wrong server.
        """
        live: dict[str, str] = {}
        for key, data in self.resources.items():
            if not data.get("delete") or data["urn"] not in live:
                live[data["urn"]] = key
        entries, graph = {}, {}
        for key, data in self.resources.items():
            missing = {urn: "" for urn in needs(data) if urn not in live}
            entries[key] = with_references(data, missing) if missing else data
            graph[key] = [live[urn] for urn in needs(entries[key]) if live.get(urn, key) != key]
        try:
            return [entries[key] for key in TopologicalSorter(graph).static_order()]
        except CycleError:  # of a foreign deployment; nothing may be lost
            return list(entries.values())


def key_of(data: Record) -> str:
    """Return the key of an entry: the URN, of a replaced resource URN and id."""
    return f"{data['urn']}#{data.get('id', '')}" if data.get("delete") else str(data["urn"])
