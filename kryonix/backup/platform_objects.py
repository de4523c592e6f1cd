"""What a platform has on its broker beside its tenants: its shared vhosts, and what operators added by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

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
_DECLARED: Final = ("operator_policy", "vhost-limits")
"""Components of parameters that only set limits. Others, such as shovels, act with a login of their own."""


def own_objects(definitions: Mapping[str, Any]) -> Objects:
    """Return the platform's own objects in the cluster's definitions."""
    return {kind: {_name(kind, each): each for each in _own(definitions, kind)} for kind in _KEYS}


def missing(was: Objects, now: Objects) -> Objects:
    """Return the objects that a broker lacks and that a restore declares."""
    found = {kind: {name: was[kind][name] for name in was[kind].keys() - now[kind].keys()} for kind in _KEYS}
    found["parameters"] = {name: each for name, each in found["parameters"].items() if each["component"] in _DECLARED}
    return {kind: dict(sorted(entries.items())) for kind, entries in found.items() if entries}


def left_out(objects: Objects) -> list[str]:
    """Return the names of the parameters that a restore never declares."""
    return sorted(name for name, each in objects["parameters"].items() if each["component"] not in _DECLARED)


def _name(kind: str, entry: Entry) -> str:
    return " ".join(str(entry[key]) for key in _KEYS[kind])


def _own(definitions: Mapping[str, Any], kind: str) -> Iterator[Entry]:
    is_tenants: Callable[[Entry], bool] = {
        "vhosts": lambda each: tenant_of_vhost(each["name"]) is not None,
        "users": lambda each: _is_tenants_user(each["name"]),
        "global_parameters": lambda each: False,
    }.get(kind, lambda each: tenant_of_vhost(each["vhost"]) is not None or _is_tenants_user(each.get("user", "")))
    return (each for each in definitions.get(kind, ()) if not is_tenants(each))


def _is_tenants_user(name: str) -> bool:
    return name != ADMIN_USER and _TENANTS_USER.fullmatch(name) is not None
