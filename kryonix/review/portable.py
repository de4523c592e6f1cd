"""Read an expansion from the text that `kryonix.review.base.expander` writes in a process of its own.

Both sides write the same text for the same expansion: texts are compared, and only those that differ are read.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

from kryonix.topology.catalog import Limits
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import KINDS, Permissions
from kryonix.topology.tenants import Tenant

__all__ = ["read_topology"]


def read_topology(text: str) -> Topology:
    """Return an expansion from its text. Nothing is checked: the base may know modules and plans that are gone now."""
    plain: dict[str, Any] = json.loads(text)
    tenant, types = plain["tenant"], get_type_hints(Topology)
    objects = {
        name: tuple(_known(get_args(types[name])[0], each) for each in plain.get(name, ()))
        for name in dict.fromkeys(kind.collection for kind in KINDS.values())
    }
    return Topology(
        tenant=Tenant.model_construct(**{**tenant, "modules": tuple(tenant["modules"])}),
        vhost=plain["vhost"],
        user=plain["user"],
        permissions=_known(Permissions, plain["permissions"]),
        limits=Limits.model_construct(**plain["limits"]),
        **objects,
    )


def _known(type_: Any, values: dict[str, Any]) -> Any:
    """Return a dataclass from the fields that it has: the base may have more of them."""
    return type_(**{name: value for name, value in values.items() if name in type_.__slots__})
