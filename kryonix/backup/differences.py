"""Differences between two snapshots of a tenant, without any secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kryonix.backup.snapshot import LIMITS, OPERATOR_POLICY, Entry, TenantSnapshot
from kryonix.engines.deployments import SIGNATURE, entries

_SHOWN: Final = 60
"""Characters shown of a value."""
_SECRET: Final = frozenset({"user", "parameter", "row", "entry", "state"})
"""Kinds whose values may hold a secret: a hash, a URI with a login, a webhook. Only names of fields are shown."""
_TOLD_BY_SOME: Final = {"queue": "type", "exchange": "internal"}
"""Fields that only some versions of the broker tell. A queue's arguments have its type; none exports internal ones."""
_RUN: Final = frozenset({"created", "modified", "outputs", "propertyDependencies"})
"""Fields of a resource that each run of an engine writes, also one that changes nothing, such as a refresh."""

Op = Literal["missing", "changed", "extra"]
Things = dict[tuple[str, str], Any]
"""Values by kind and name."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing of a tenant that is missing, changed, or extra, compared with a snapshot. `detail` is for a person."""

    kind: str
    name: str
    op: Op
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.kind} {self.name}: {self.op}{f' ({self.detail})' if self.detail else ''}"
        return "".join(each if each.isprintable() else f"{each!a}"[1:-1] for each in text)  # a name may move the cursor


def differences(was: TenantSnapshot, now: TenantSnapshot, *, back: bool = False) -> list[Difference]:
    """Return where `now` differs from `was`, sorted. The order of entries, and what each reading names, count not.

    Details tell values as `was -> now`; with `back` as `now -> was`, which is what a restore does.
    """
    before, after = _things(was), _things(now)
    found = [Difference(*key, "missing") for key in before.keys() - after.keys()]
    found += [Difference(*key, "extra") for key in after.keys() - before.keys()]
    for key in before.keys() & after.keys():
        if before[key] != after[key]:
            old, new = (after, before) if back else (before, after)
            found.append(Difference(*key, "changed", _detail(key[0], old[key], new[key])))
    return sorted(found)


def _things(snapshot: TenantSnapshot) -> Things:
    """Return everything in a snapshot by kind and name."""
    found: Things = {}
    if vhost := snapshot.vhost:
        found["vhost", vhost["name"]] = _without_name(vhost) | {"tags": sorted(vhost["tags"])}
    found.update({("limit", name): value for name, value in snapshot.limits.items()})
    found.update(_objects(snapshot))
    for user in snapshot.users:
        found["user", user["name"]] = {**user, "tags": sorted(user["tags"])}
    own = {user["name"] for user in snapshot.users}
    for right in snapshot.permissions:
        # Each platform names its administrator itself.
        name = right["user"] if right["user"] in own else "of the administrator"
        found["permission", name] = {key: right[key] for key in ("configure", "write", "read")}
    for right in snapshot.topic_permissions:
        name = f"{right['user']} on {right['exchange']}"
        found["topic permission", name] = {key: right[key] for key in ("write", "read")}
    for table, rows in snapshot.rows.items():
        # The number of a row without a name of its own is the database's.
        values = ({key: value for key, value in row.items() if key != "id"} for row in rows)
        found.update({("row", f"{table} {at}"): row for at, row in enumerate(values, 1)})
    found["entry", snapshot.tenant] = dict(snapshot.entry)
    if snapshot.state is not None:
        found.update(_resources(snapshot.state))
    return found


def _objects(snapshot: TenantSnapshot) -> Things:
    found: Things = {}
    for kind, noun in (("exchanges", "exchange"), ("queues", "queue"), ("policies", "policy")):
        without = {"name", _TOLD_BY_SOME.get(noun)}
        named = (
            (each["name"], {k: v for k, v in each.items() if k not in without}) for each in snapshot.definitions[kind]
        )
        found.update({(noun, name): value for name, value in named})
    for each in snapshot.definitions["bindings"]:
        found["binding", binding_name(each)] = dict(each)
    for each in snapshot.definitions["parameters"]:
        if each["component"] == OPERATOR_POLICY:
            found["operator policy", each["name"]] = each["value"]
        elif each["component"] != LIMITS:
            found["parameter", f"{each['component']} {each['name']}"] = each["value"]
    return found


def binding_name(entry: Entry) -> str:
    """Return a binding's name for display. The arguments tell it from others, so they are part of it."""
    arguments = f" {json.dumps(entry['arguments'], sort_keys=True)}" if entry["arguments"] else ""
    kind = "" if entry["destination_type"] == "queue" else f"{entry['destination_type']} "
    return f"{entry['source']} -> {kind}{entry['destination']} [{entry['routing_key']}]{arguments}"


def _without_name(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "name"}


def _resources(state: Entry) -> Things:
    """Return the resources of a deployment by URN. Secrets are encrypted anew by each run, so none is compared."""
    return {
        ("state", data["urn"]): _opaque({key: value for key, value in data.items() if key not in _RUN})
        for data in entries(state)
    }


def _opaque(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "[secret]" if SIGNATURE in value else {key: _opaque(each) for key, each in value.items()}
    return [_opaque(each) for each in value] if isinstance(value, list) else value


def _detail(kind: str, was: Any, now: Any) -> str:
    if not isinstance(was, Mapping) or not isinstance(now, Mapping):
        return "" if kind in _SECRET else f"{_shown(was)} -> {_shown(now)}"
    changed = list(_changed(was, now))
    if kind in _SECRET:
        return ", ".join(changed)
    return ", ".join(_values(key, was.get(key), now.get(key)) for key in changed)


def _values(name: str, was: Any, now: Any) -> str:
    """Return the two values of a field; of a mapping those that differ, as all of it would be cut before them."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return ", ".join(_values(f"{name}.{key}", was.get(key), now.get(key)) for key in _changed(was, now))
    return f"{name}: {_shown(was)} -> {_shown(now)}"


def _changed(was: Entry, now: Entry) -> Iterator[str]:
    yield from (key for key in _keys(was, now) if was.get(key) != now.get(key) or (key in was) != (key in now))


def _keys(was: Iterable[str], now: Iterable[str]) -> list[str]:
    return sorted({*was, *now})


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
