"""A tenant as it was read: everything of it on the broker, in the registry and in its stack, but its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from kryonix.backup.bundle import Bundle
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.ownership import check_owned
from kryonix.backup.shapes import check_shape, parse_member
from kryonix.topology.naming import Names

Entry = Mapping[str, Any]

_MEMBERS: Final = {
    "vhost.json": "vhost",
    "definitions.json": "definitions",
    "users.json": "users",
    "permissions.json": "",
    "rows.json": "rows",
    "tenant.json": "entry",
}
"""The members that every bundle of a tenant has, and the field that each one is."""

OBJECTS: Final = ("exchanges", "queues", "bindings", "policies", "parameters")
"""The lists of a vhost's definitions."""
LIMITS: Final = "vhost-limits"
OPERATOR_POLICY: Final = "operator_policy"
RESTORED: Final = frozenset({LIMITS, OPERATOR_POLICY})
"""Components of parameters. Others, such as shovels, act with a login of their own: a restore leaves them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSnapshot:
    """One tenant. Entries are those of the management API and of the registry, without the name of the vhost."""

    tenant: str
    vhost: Entry | None
    """`name`, `description`, `tags`, `default_queue_type`, `protected`; None if the broker has no such vhost."""
    definitions: Mapping[str, Sequence[Entry]] = field(repr=False)
    users: Sequence[Entry] = field(repr=False)
    """The users of every generation, with their password hashes and limits."""
    permissions: Sequence[Entry] = field(repr=False)
    """Permissions of the tenant's users, and of the administrator who was there."""
    topic_permissions: Sequence[Entry] = field(repr=False)
    rows: Mapping[str, Sequence[Entry]] = field(repr=False)
    """Rows of the registry by table, as `schema.table`."""
    entry: Entry = field(repr=False)
    """The tenant as in tenants.yaml."""
    state: Entry | None = field(default=None, repr=False)
    """The deployment of the tenant's own stack, with secrets encrypted."""

    @property
    def names(self) -> Names:
        return Names(self.tenant)

    @property
    def limits(self) -> dict[str, int]:
        """Return the limits of the vhost."""
        found = (each["value"] for each in self.definitions["parameters"] if each["component"] == LIMITS)
        return {name: value for values in found for name, value in dict(values).items()}  # without any, they are []

    @property
    def left_out(self) -> list[str]:
        """Return the names of the parameters that a restore does not bring back."""
        found = self.definitions["parameters"]
        return [f"{each['component']} {each['name']}" for each in found if each["component"] not in RESTORED]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of objects by noun."""
        listed = {"users": self.users, "permissions": [*self.permissions, *self.topic_permissions]}
        rows = sum(map(len, self.rows.values()))
        return {noun: len(found) for noun, found in (*self.definitions.items(), *listed.items())} | {"rows": rows}

    def members(self) -> dict[str, bytes]:
        """Return the members of a bundle. The same tenant gives the same bytes."""
        values = {name: getattr(self, field) for name, field in _MEMBERS.items() if field}
        values["permissions.json"] = {
            "permissions": self.permissions,
            "topic_permissions": self.topic_permissions,
        }
        if self.state is not None:
            values["state.json"] = self.state
        return {name: _as_json(value) for name, value in values.items()}

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Return the tenant of a bundle. Raises InvalidBundle for one that could restore anything of somebody else.

        age shows that a bundle is whole, and not who wrote it: whoever knows the recipient may have.
        """
        manifest = bundle.manifest
        where = f"the bundle of {manifest.kind} {manifest.subject!r}"
        if manifest.kind != "tenant":
            raise InvalidBundle(where, "it holds no tenant. Restore it as a platform")
        read = {name: parse_member(where, name, text) for name, text in bundle.members.items()}
        if missing := sorted(_MEMBERS.keys() - read.keys()):
            raise InvalidBundle(where, f"{missing[0]} is missing")
        rights = read["permissions.json"] if isinstance(read["permissions.json"], dict) else {}
        fields = {field: read[name] for name, field in _MEMBERS.items() if field}
        fields |= {name: rights.get(name) for name in ("permissions", "topic_permissions")}
        fields["state"] = read.get("state.json")
        check_shape(where, fields)
        found = cls(tenant=manifest.subject, **fields)
        check_owned(found, where)
        return found


def _as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"
