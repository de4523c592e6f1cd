"""A stack's state in memory: Pulumi's deployment format, version 3, resource by resource, as JSON values.

`apply` is the only way it changes, and takes exactly what the journal keeps; a replayed journal gives the same state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from kryonix.engines.local.errors import StateCorrupt

__all__ = ["Record", "State", "key_of", "now"]

FORMAT = 3
Record = dict[str, Any]


def now() -> str:
    """The time as the deployment format writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


ASIDE: Final = "#aside-"
"""Between a URN and a number: the key of a create that was set aside, to be looked for with the inputs it had."""


class State:
    """Resources by key, in order, and operations that were begun and have not ended."""

    def __init__(self) -> None:
        self.resources: dict[str, Record] = {}
        self.operations: dict[str, Record] = {}
        self.salt = ""

    @classmethod
    def of_document(cls, document: Any, *, where: str) -> State:
        """The state of a deployment document, as `document` gives it or `pulumi stack export` prints it."""
        state = cls()
        try:
            if document["version"] != FORMAT:
                raise StateCorrupt(
                    f"{where} has deployment format {document['version']!r}; this engine reads {FORMAT}. "
                    "Export it with the Pulumi CLI version that the project's requirements name."
                )
            deployment = document["deployment"]
            state._read(deployment or {}, where)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StateCorrupt(f"{where} is not a deployment: {type(error).__name__} {error}.") from error
        return state

    def _read(self, deployment: Record, where: str) -> None:
        provider = deployment.get("secrets_providers") or {}
        if provider and provider["type"] != "passphrase":
            raise StateCorrupt(
                f"{where} was encrypted by the secrets provider {provider['type']!r}; this engine knows `passphrase` "
                "only. Change it first: pulumi stack change-secrets-provider passphrase"
            )
        self.salt = (provider.get("state") or {}).get("salt", "")
        for resource in deployment.get("resources") or ():
            if not str(resource["urn"]).startswith("urn:pulumi:"):
                raise ValueError(f"{resource['urn']!r} is no URN")
            self.resources[key_of(resource)] = resource
        for operation in deployment.get("pending_operations") or ():
            resource = operation["resource"]
            self.operations[operation.get("key") or key_of(resource)] = {
                "type": operation["type"],
                "resource": resource,
            }

    def apply(self, record: Record) -> None:
        """Make one journalled change: rename, drop, put, begin, end, in this order."""
        for old, new in record.get("rename", ()):
            self.resources = {
                key: data if key == old else _renamed(data, old, new) for key, data in self.resources.items()
            }
        for key in record.get("drop", ()):
            self.resources.pop(key, None)
        for data in record.get("put", ()):
            self.resources[key_of(data)] = data
        for operation in record.get("begin", ()):
            self.operations[operation["key"]] = {"type": operation["type"], "resource": operation.get("resource")}
        for key in record.get("end", ()):
            self.operations.pop(key, None)

    def document(self) -> Record:
        """The state as `pulumi stack export` prints it."""
        engine = f"v{version('pulumi')}"
        deployment: Record = {
            "manifest": {"time": now(), "magic": hashlib.sha256(engine.encode()).hexdigest(), "version": engine}
        }
        if self.salt:
            deployment["secrets_providers"] = {"type": "passphrase", "state": {"salt": self.salt}}
        if self.resources:
            deployment["resources"] = self._ordered()
        operations = [
            {"resource": operation["resource"] or self.resources.get(key), "type": operation["type"]}
            | ({"key": key} if ASIDE in key else {})  # the Pulumi CLI reads over it
            for key, operation in self.operations.items()
        ]
        if operations := [operation for operation in operations if operation["resource"]]:
            deployment["pending_operations"] = operations
        deployment["metadata"] = {}
        return {"version": FORMAT, "deployment": deployment}

    def same_as(self, other: State) -> bool:
        """Whether there is nothing to write; the order of resources does not count."""
        return self.resources == other.resources and self.operations == other.operations and self.salt == other.salt

    def copy(self) -> State:
        """A state that changes apart from this one; entries are shared, being replaced whole and never changed."""
        twin = State()
        twin.resources, twin.operations, twin.salt = dict(self.resources), dict(self.operations), self.salt
        return twin

    def _ordered(self) -> list[Record]:
        """Resources with what each needs before it, which the Pulumi CLI insists on, and nothing that isn't there."""
        live = {data["urn"] for data in self.resources.values()}
        entries = {key: _without_missing(data, live) for key, data in self.resources.items()}
        by_urn: dict[str, list[str]] = {}
        for key, data in entries.items():
            by_urn.setdefault(data["urn"], []).append(key)
        ordered: dict[str, Record] = {}
        for key in entries:
            _place(key, entries, by_urn, ordered)
        return list(ordered.values())


def _place(key: str, entries: dict[str, Record], by_urn: dict[str, list[str]], ordered: dict[str, Record]) -> None:
    """Put an entry after what it needs, without recursion: chains of dependencies may be long."""
    stack: list[tuple[str, bool]] = [(key, False)]
    entered: set[str] = set()
    while stack:
        current, complete = stack.pop()
        if current in ordered:
            continue
        if complete:
            ordered[current] = entries[current]
        elif current not in entered:
            entered.add(current)
            stack.append((current, True))
            needed = [other for urn in _needs(entries[current]) for other in by_urn.get(urn, ())]
            stack.extend((other, False) for other in reversed(needed) if other not in ordered)


def key_of(data: Record) -> str:
    """What an entry is filed under: its URN, or for a replaced one its URN and id."""
    return f"{data['urn']}#{data.get('id', '')}" if data.get("delete") else str(data["urn"])


def _needs(data: Record) -> Iterable[str]:
    if data.get("parent"):
        yield data["parent"]
    if data.get("provider"):
        yield data["provider"].rsplit("::", 1)[0]
    yield from data.get("dependencies", ())
    for deps in data.get("propertyDependencies", {}).values():
        yield from deps or ()
    if data.get("deletedWith"):
        yield data["deletedWith"]


def _without_missing(data: Record, live: set[str]) -> Record:
    if all(urn in live for urn in _needs(data)):
        return data
    kept = dict(data)
    for name in ("parent", "deletedWith"):
        if kept.get(name) and kept[name] not in live:
            del kept[name]
    kept["dependencies"] = [urn for urn in data.get("dependencies", ()) if urn in live]
    kept["propertyDependencies"] = {
        key: [urn for urn in deps or () if urn in live] for key, deps in data.get("propertyDependencies", {}).items()
    }
    return {name: value for name, value in kept.items() if value or name == "custom"}


def _renamed(data: Record, old: str, new: str) -> Record:
    if old not in _needs(data):
        return data
    fixed = dict(data)
    for name in ("parent", "deletedWith"):
        if fixed.get(name) == old:
            fixed[name] = new
    if fixed.get("provider", "").startswith(f"{old}::"):
        fixed["provider"] = new + fixed["provider"][len(old) :]
    if "dependencies" in fixed:
        fixed["dependencies"] = [new if urn == old else urn for urn in fixed["dependencies"]]
    if "propertyDependencies" in fixed:
        fixed["propertyDependencies"] = {
            key: [new if urn == old else urn for urn in deps] for key, deps in fixed["propertyDependencies"].items()
        }
    return fixed
