"""Find a vhost's owner, the queues deleted by an expansion, and the losses accepted by config."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from kryonix.topology.expansion import Topology
from kryonix.topology.naming import TENANT_ID, TENANT_STACK, Names, tenant_of_vhost
from kryonix.topology.objects import QueueState, VhostState


def description(tenant_id: str, stack: str) -> str:
    """Return a vhost's description: its tenant and the managing stack."""
    return f"Tenant {tenant_id}, managed by the stack {stack}"


def owned_tenants(vhosts: Iterable[VhostState], stack: str) -> set[str]:
    """Return the ids of a stack's tenants on a broker."""
    found = ((tenant_of_vhost(vhost.name), vhost.description) for vhost in vhosts)
    return {tenant for tenant, text in found if tenant is not None and text == description(tenant, stack)}


def tenants_of_others(vhosts: Iterable[VhostState], stack: str | None) -> dict[str, str]:
    """Return the tenants of other stacks on a broker, sorted: id to stack.

    Without a stack (None), return those with a stack of their own: no platform's stack has such a name.
    """
    found: dict[str, str] = {}
    for vhost in vhosts:
        tenant = tenant_of_vhost(vhost.name)
        start, _, manager = vhost.description.rpartition(" ")
        theirs = manager.startswith(TENANT_STACK) if stack is None else manager != stack
        if tenant and manager and theirs and f"{start} " == description(tenant, ""):
            found[tenant] = manager
    return dict(sorted(found.items()))


def doomed(queues: Iterable[QueueState], topologies: Collection[Topology], owned: Collection[str]) -> list[QueueState]:
    """Return the queues of a stack's tenants missing in its expansion, or there with other arguments."""
    wanted = {(t.vhost, queue.name): queue.arguments for t in topologies for queue in t.queues}
    ours = {Names(tenant).vhost: re.compile(Names(tenant).own_objects) for tenant in owned}
    ours.update({t.vhost: re.compile(t.tenant.names.own_objects) for t in topologies})
    return [
        queue
        for queue in queues
        if queue.vhost in ours
        and ours[queue.vhost].match(queue.name)
        and wanted.get((queue.vhost, queue.name)) != queue.arguments
    ]


def accepted(queue: str, entries: Collection[str]) -> bool:
    """Return True if the config accepts the loss of a queue. `*` in an entry stands for any text."""
    patterns = (".*".join(map(re.escape, entry.split("*"))) for entry in entries if "*" in entry)
    return queue in entries or any(re.fullmatch(pattern, queue, re.DOTALL) for pattern in patterns)


def too_wide(entries: Iterable[str]) -> list[str]:
    """Return the entries with `*` for queues of more than one tenant.

    `cliente_acme*` is one of them: it matches the queues of `acme2` too.
    """
    return [entry for entry in entries if "*" in entry and not re.match(rf"cliente_{TENANT_ID}\.", entry)]
