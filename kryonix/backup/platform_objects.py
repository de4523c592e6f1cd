"""What a platform has on its broker beside its tenants: its shared vhosts, and what operators added by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kryonix.backup.scratch import PREFIX
from kryonix.topology.naming import ADMIN_USER, TENANT_ID, tenant_of_vhost

Entry = Mapping[str, Any]
Objects = dict[str, dict[str, Entry]]
"""Entries of the cluster's definitions by kind and by name."""

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "exchanges": ("name", "vhost"),
    "queues": ("name", "vhost"),
    "bindings": ("source", "destination_type", "destination", "routing_key", "arguments", "vhost"),
    "policies": ("name", "vhost"),
    "parameters": ("component", "name", "vhost"),
    "global_parameters": ("name",),
}
"""The fields that name an entry, in the order in which a broker declares the kinds."""

_TENANTS_USER: Final = re.compile(rf"kryonix_{TENANT_ID}(\.[1-9][0-9]*)?(\.stats)?")
_LIMITS: Final = ("operator_policy", "vhost-limits")
"""Components of parameters that only set limits. Others, such as shovels, act with a login of their own."""
_ADMINISTRATOR: Final = "administrator"


def own_objects(definitions: Mapping[str, Any]) -> Objects:
    """Return the platform's own objects in the cluster's definitions."""
    return {kind: {_name(kind, each): each for each in _own(definitions, kind)} for kind in _KEYS}


def missing(was: Objects, now: Objects) -> Objects:
    """Return the objects that a broker lacks and that a restore declares."""
    found, absent = _lacking(was, now, by_hand=False), _lacking(was, now, by_hand=True).get("users", {})
    allowed = {
        kind: {name: each for name, each in entries.items() if each.get("user") not in absent}
        for kind, entries in found.items()
    }
    return {kind: entries for kind, entries in allowed.items() if entries}


def left_out(was: Objects, now: Objects) -> list[str]:
    """Return the names of the objects that a broker lacks and that a restore never declares.

    They could give the broker to whoever wrote the bundle: administrators, and parameters that act with a login.
    """
    found = _lacking(was, now, by_hand=True)
    return [f"{kind.rstrip('s')} {name}" for kind, entries in found.items() for name in entries]


def _lacking(was: Objects, now: Objects, *, by_hand: bool) -> Objects:
    found = {
        kind: {name: entries[name] for name in sorted(entries.keys() - now[kind].keys())}
        for kind, entries in was.items()
    }
    chosen = {
        kind: {name: each for name, each in entries.items() if _is_by_hand(kind, each) == by_hand}
        for kind, entries in found.items()
    }
    return {kind: entries for kind, entries in chosen.items() if entries}


def _is_by_hand(kind: str, entry: Entry) -> bool:
    return (kind == "users" and _ADMINISTRATOR in entry["tags"]) or (
        kind == "parameters" and entry["component"] not in _LIMITS
    )


def _name(kind: str, entry: Entry) -> str:
    return " ".join(str(entry[key]) for key in _KEYS[kind])


def _own(definitions: Mapping[str, Any], kind: str) -> Iterator[Entry]:
    is_others: Callable[[Entry], bool] = {
        "vhosts": lambda each: _is_other_vhost(each["name"]),
        "users": lambda each: _is_other_user(each["name"]),
        "global_parameters": lambda each: False,
    }.get(kind, lambda each: _is_other_vhost(each["vhost"]) or _is_other_user(each.get("user", "")))
    return (each for each in definitions.get(kind, ()) if not is_others(each))


def _is_other_vhost(name: str) -> bool:
    """Return True for a tenant's vhost, and for one that a verification made for a moment."""
    return tenant_of_vhost(name) is not None or name.startswith(f"/{PREFIX}")


def _is_other_user(name: str) -> bool:
    tenants = name != ADMIN_USER and _TENANTS_USER.fullmatch(name) is not None
    return tenants or name.startswith(PREFIX)
