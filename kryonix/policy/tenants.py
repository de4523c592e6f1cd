"""Rebuild the tenants of a stack from its program's resources."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kryonix.policy.resources import UNKNOWN, Registered
from kryonix.review.rules import CurrentState
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names, tenant_of_vhost
from kryonix.topology.objects import (
    BINDING,
    EXCHANGE,
    KINDS,
    NO_PERMISSIONS,
    OPERATOR_POLICY,
    POLICY,
    QUEUE,
    Binding,
    Exchange,
    Permissions,
    Policy,
    Queue,
)
from kryonix.topology.tenants import Tenant

_COMPONENT: Final = "kryonix:messaging:TenantMessaging"
_VHOST: Final = "rabbitmq:index/vHost:VHost"
_PERMISSIONS: Final = "rabbitmq:index/permissions:Permissions"
_SAFEGUARDS: Final = "pulumi-python:dynamic/kryonix:Safeguards"

_INTEGER: Final = re.compile(r"-?\d+")


@dataclass(frozen=True, slots=True)
class StackTenant:
    """A tenant, and the URNs of its objects."""

    state: CurrentState
    urns: Mapping[str, str] = field(default_factory=dict)
    """By the object's name on the broker; the vhost also by the empty name."""

    @property
    def id(self) -> str:
        return self.state.topology.tenant.id


def stack_tenants(resources: Iterable[Registered], listed: Mapping[str, Tenant], catalog: Catalog) -> list[StackTenant]:
    """Return every tenant with a vhost in the stack, in alphabetical order.

    `listed` and `catalog` are the stack's sources: the broker does not have all of a plan's limits.
    """
    smallest = next(iter(catalog.plans))
    owned: defaultdict[str, list[Registered]] = defaultdict(list)
    for resource in resources:
        if (tenant := _tenant_of(resource)) is not None:
            owned[tenant].append(resource)
    return [
        _Assembly(tenant, owned[tenant]).assemble(
            listed.get(tenant) or Tenant.model_construct(id=tenant, modules=(), plan=smallest), catalog
        )
        for tenant in sorted(owned)
        if any(resource.type == _VHOST for resource in owned[tenant])
    ]


def _tenant_of(resource: Registered) -> str | None:
    """Return the tenant of a resource's vhost or, if that is not known yet, of the component around it."""
    vhost = resource.props.get("name" if resource.type == _VHOST else "vhost", UNKNOWN)
    if vhost is not UNKNOWN:
        return tenant_of_vhost(str(vhost))
    return resource.owners.get(_COMPONENT)


class _Assembly:
    """One tenant's resources by type."""

    def __init__(self, tenant: str, resources: Iterable[Registered]) -> None:
        self._names = Names(tenant)
        self._by_type: defaultdict[str, list[Registered]] = defaultdict(list)
        for resource in resources:
            self._by_type[resource.type].append(resource)

    def assemble(self, tenant: Tenant, catalog: Catalog) -> StackTenant:
        rights = dict(self._rights())
        limits, unlimited = self._limits()
        topology = Topology(
            tenant=tenant,
            vhost=self._names.vhost,
            user=self._names.user,
            permissions=rights.get(self._names.user) or next(iter(rights.values()), NO_PERMISSIONS),
            limits=catalog.plans[tenant.plan].limits.model_copy(update=limits),
            **self._objects(),
        )
        transient = {}
        for queue in self._by_type[QUEUE.resource_type]:
            settings = queue.props["settings"]
            if settings.get("autoDelete"):
                transient[_name(queue)] = "is deleted with its last consumer"
            elif not settings.get("durable"):
                transient[_name(queue)] = "does not outlive a restart of the broker"
        urns = {_name(resource): resource.urn for resources in self._by_type.values() for resource in resources}
        urns[""] = self._by_type[_VHOST][0].urn
        return StackTenant(CurrentState(topology, rights, unlimited, transient), urns)

    def _rights(self) -> Iterator[tuple[str, Permissions]]:
        for resource in self._by_type[_PERMISSIONS]:
            if resource.name == f"{self._names.tenant_id}/admin":
                continue
            user, patterns = resource.props.get("user", UNKNOWN), resource.props["permissions"]
            if user is UNKNOWN:  # the provider does not exist yet; the resource's name follows the user's
                user = self._user_of(resource.name)
            yield str(user), Permissions(*(str(patterns.get(right, "")) for right in ("configure", "write", "read")))

    def _user_of(self, resource: str) -> str:
        """Return the user of a resource called `acme/user`, `acme/stats` or, in a later generation, `acme/stats.2`."""
        kind, _, generation = resource.removeprefix(f"{self._names.tenant_id}/").partition(".")
        if kind not in ("user", "stats") or not (generation or "1").isdecimal():
            return resource
        of = self._names.stats_user_of if kind == "stats" else self._names.user_of
        return of(int(generation or "1"))

    def _limits(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Return the plan's limits on the vhost and the user, and the names of unset limits."""
        vhost, user = self._by_type[_VHOST][0].props, next((r.props for r in self._by_type[_SAFEGUARDS]), {})
        found = {
            "vhost max_connections": _count(vhost.get("maxConnections")),
            "vhost max_queues": _count(vhost.get("maxQueues")),
            "user max_connections": _count(user.get("maxConnections")),
            "user max_channels": _count(user.get("maxChannels")),
        }
        limits: dict[str, int] = {}
        for name, count in found.items():
            if count is not None:  # a suspended tenant's vhost has limit 0, and its user keeps the plan's: the larger
                limit = name.partition(" ")[2]
                limits[limit] = max(count, limits.get(limit, 0))
        return limits, tuple(name for name, count in found.items() if count is None)

    def _objects(self) -> dict[str, Any]:
        """Return the objects in the vhost by their field of `Topology`."""
        found: dict[str, tuple[Any, ...]] = {}
        for kind in KINDS.values():
            read = READERS[kind.resource_type]
            objects = (read(resource, self._names) for resource in self._by_type[kind.resource_type])
            found[kind.collection] = (*found.get(kind.collection, ()), *objects)
        return found


def _name(resource: Registered) -> str:
    """Return the object's name on the broker. The program never makes it depend on other resources."""
    return str(resource.props.get("name", resource.name))


def _count(value: Any) -> int | None:
    """Return a limit, or None if it is missing, below zero, or not a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _exchange(resource: Registered, names: Names) -> Exchange:
    settings = resource.props["settings"]
    return Exchange(_name(resource), settings["type"], dict(settings.get("arguments") or {}))


def _queue(resource: Registered, names: Names) -> Queue:
    settings = resource.props["settings"]
    text = settings.get("argumentsJson")
    arguments = settings.get("arguments") or {} if text is None or text is UNKNOWN else json.loads(text)
    return Queue(_name(resource), arguments, names.module_of(_name(resource)))


def _binding(resource: Registered, names: Names) -> Binding:
    props = resource.props
    return Binding(str(props["source"]), str(props["destination"]), str(props.get("routingKey") or ""))


def _policy(resource: Registered, names: Names) -> Policy:
    policy = resource.props["policy"]
    # The provider sends every text that looks like an integer as an integer.
    definition = {
        key: int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
        for key, value in policy["definition"].items()
    }
    return Policy(
        name=_name(resource),
        kind="operator" if resource.type == OPERATOR_POLICY.resource_type else "policy",
        pattern=policy["pattern"],
        priority=int(policy["priority"]),
        apply_to=policy["applyTo"],
        definition=definition,
    )


READERS: Final[Mapping[str, Callable[[Registered, Names], Any]]] = {
    EXCHANGE.resource_type: _exchange,
    QUEUE.resource_type: _queue,
    BINDING.resource_type: _binding,
    POLICY.resource_type: _policy,
    OPERATOR_POLICY.resource_type: _policy,
}
"""The readers of objects from resources, by the resource's type."""
