"""Which stack a vhost belongs to, and which queues on a broker an expansion would delete."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from kryonix.topology.expansion import Topology
from kryonix.topology.naming import TENANT_STACK, Names, tenant_of_vhost

__all__ = ["description", "doomed", "owned_tenants", "tenants_of_others"]


class LiveQueue(Protocol):
    """A queue as a broker reports it."""

    @property
    def vhost(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...


class LiveVhost(Protocol):
    """A vhost as a broker reports it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...


Q = TypeVar("Q", bound=LiveQueue)


def description(tenant_id: str, stack: str) -> str:
    """A vhost's description, which says whose it is and which stack manages it."""
    return f"Tenant {tenant_id}, managed by the stack {stack}"


def owned_tenants(vhosts: Iterable[LiveVhost], stack: str) -> set[str]:
    """The ids of the tenants on a broker that a stack manages."""
    found = ((tenant_of_vhost(vhost.name), vhost.description) for vhost in vhosts)
    return {tenant for tenant, text in found if tenant is not None and text == description(tenant, stack)}


def tenants_of_others(vhosts: Iterable[LiveVhost], stack: str | None) -> dict[str, str]:
    """The tenants on a broker that other stacks manage: id to stack, in order.

    Where the own stack is not known (None), those with a stack of their own, as no platform's is called like theirs.
    """
    found: dict[str, str] = {}
    for vhost in vhosts:
        tenant = tenant_of_vhost(vhost.name)
        start = description(tenant, "") if tenant else ""
        manager = vhost.description.removeprefix(start) if tenant and vhost.description.startswith(start) else ""
        theirs = manager.startswith(TENANT_STACK) if stack is None else manager != stack
        if tenant and manager and theirs:
            found[tenant] = manager
    return dict(sorted(found.items()))


def doomed(queues: Iterable[Q], topologies: Collection[Topology], owned: Collection[str]) -> list[Q]:
    """The queues of a stack's tenants that its expansion no longer has, or has with other arguments."""
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
