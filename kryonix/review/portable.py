"""An expansion as plain values and back: how the base's own code, in a process of its own, hands over what it makes.

Both sides write the same text for the same expansion, so texts are compared, and only those that differ are read.
"""

from __future__ import annotations

import json
from typing import Any

from kryonix.topology.catalog import Limits
from kryonix.topology.expansion import Binding, Exchange, Permissions, Queue, Topology
from kryonix.topology.policies import Policy
from kryonix.topology.tenants import Tenant

__all__ = ["read_topology"]


def read_topology(text: str) -> Topology:
    """An expansion from its text. Nothing in it is checked: the base may know modules and plans that are gone now."""
    plain: dict[str, Any] = json.loads(text)
    tenant = plain["tenant"]
    return Topology(
        tenant=Tenant.model_construct(**{**tenant, "modules": tuple(tenant["modules"])}),
        vhost=plain["vhost"],
        user=plain["user"],
        permissions=Permissions(**plain["permissions"]),
        limits=Limits.model_construct(**plain["limits"]),
        exchanges=tuple(Exchange(*exchange) for exchange in plain["exchanges"]),
        queues=tuple(Queue(*queue) for queue in plain["queues"]),
        bindings=tuple(Binding(*binding) for binding in plain["bindings"]),
        policies=tuple(Policy(*policy) for policy in plain["policies"]),
    )
