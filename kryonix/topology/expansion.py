"""Expand a tenant into everything it has on the broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from kryonix.topology.catalog import Catalog, Limits, Module
from kryonix.topology.naming import PRIORITIES, Names, Priority, stats_user
from kryonix.topology.objects import (
    KINDS,
    NO_PERMISSIONS,
    Binding,
    Definition,
    Exchange,
    ObjectKind,
    Permissions,
    Policy,
    Queue,
)
from kryonix.topology.tenants import Tenant

# At-least-once dead-lettering needs reject-publish: with drop-head the broker falls back to at-most-once.
# https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering
_NOTHING_LOST: Final[Definition] = {"dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}

# The broker's own limit of 20 deliveries would delete a dead letter, and every connection that breaks while reading the
# queue counts as one.
_NEVER_GIVEN_UP: Final[Definition] = {"delivery-limit": -1}


@dataclass(frozen=True, slots=True)
class Topology:
    """All objects of one tenant on the broker."""

    tenant: Tenant
    vhost: str
    user: str
    permissions: Permissions
    """The user's permissions while the tenant is active; `granted` are its permissions now."""
    limits: Limits
    """The plan's limits. A suspended tenant's vhost has `max_connections` 0 all the same."""
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    policies: tuple[Policy, ...]

    @property
    def max_connections(self) -> int:
        """Return the connections the vhost accepts: none while the tenant is suspended."""
        return 0 if self.tenant.status == "suspended" else self.limits.max_connections

    @property
    def granted(self) -> Permissions:
        """Return the permissions of the applications' users: none while the tenant is suspended."""
        return NO_PERMISSIONS if self.tenant.status == "suspended" else self.permissions

    @property
    def stats_user(self) -> str:
        """Return the user for figures by HTTP, with the same password as the application's user."""
        return stats_user(self.user)

    @property
    def stats_tags(self) -> tuple[str, ...]:
        """Return the tags of the users for figures. `management` lets a user see its own vhost's by HTTP.

        An application's user never has it: it may read messages, and could then fetch whole queues by HTTP. The broker
        builds each such answer in memory, outside of its memory alarm.
        """
        return () if self.tenant.status == "suspended" else ("management",)

    def objects(self) -> Iterator[tuple[ObjectKind, str, Any]]:
        """Yield the kind, the name and the value of every object in the vhost."""
        for collection in dict.fromkeys(kind.collection for kind in KINDS.values()):
            for each in getattr(self, collection):
                yield each.object_kind, each.name, each


def expand(tenant: Tenant, catalog: Catalog) -> Topology:
    """Return a tenant's topology. The tenant's modules and plan must be in the catalog."""
    names = tenant.names
    modules = {name: catalog.modules[name] for name in tenant.modules}
    attempts = catalog.retry.limit if catalog.retry.strategy == "queues" else 0
    unrouted = Queue(names.unrouted, {"x-queue-type": "quorum"})
    return Topology(
        tenant=tenant,
        vhost=names.vhost,
        user=names.user,
        permissions=Permissions(configure="^$", write=names.writable_objects, read=names.readable_objects),
        limits=catalog.plans[tenant.plan].limits,
        exchanges=tuple(_exchanges(names, modules)),
        queues=(unrouted, *(queue for module in modules.items() for queue in _queues(names, *module, attempts))),
        bindings=tuple(_bindings(names, modules, attempts)),
        policies=tuple(_policies(tenant, catalog)),
    )


def _exchanges(names: Names, modules: Iterable[str]) -> Iterator[Exchange]:
    alternate = {"alternate-exchange": names.unrouted}
    yield Exchange(names.unrouted, "fanout")
    yield Exchange(names.exchange, "topic", alternate)
    yield Exchange(names.mobile_exchange, "topic", alternate)
    yield Exchange(names.critical_exchange, "direct", alternate)
    yield Exchange(names.automation_exchange, "fanout", alternate)
    for module in modules:
        yield Exchange(names.dead_letter_exchange(module), "direct")


def _queues(names: Names, name: str, module: Module, attempts: int) -> Iterator[Queue]:
    for action in module.actions:
        arguments = {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": names.dead_letter_exchange(name),
            "x-dead-letter-routing-key": names.dead_letter_key(name, action),
        }
        for queue in _consumed(names, name, module, action):
            yield Queue(queue, arguments, name)
            back = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
            for attempt in range(1, attempts + 1):
                yield Queue(names.retry_queue(queue, attempt), back, name)
        yield Queue(names.dead_letter_queue(name, action), {"x-queue-type": "quorum"}, name)


def _consumed(names: Names, name: str, module: Module, action: str) -> tuple[str, ...]:
    """Return the queues read by an action's consumers: its own, and one per priority lane."""
    lanes = (names.lane(name, action, lane) for lane in module.priority_lanes.get(action, ()))
    return (names.queue(name, action), *lanes)


def _bindings(names: Names, modules: Mapping[str, Module], attempts: int) -> Iterator[Binding]:
    yield Binding(names.unrouted, names.unrouted)
    for name, module in modules.items():
        for action in module.actions:
            yield from _action_bindings(names, name, module, action, attempts)


def _action_bindings(names: Names, name: str, module: Module, action: str, attempts: int) -> Iterator[Binding]:
    queue, lanes = names.queue(name, action), module.priority_lanes.get(action, ())
    for lane in lanes:
        yield Binding(names.exchange, names.lane(name, action, lane), names.routing_key(name, action, lane))
    others: Sequence[Priority | Literal["*"]] = [each for each in PRIORITIES if each not in lanes] if lanes else ["*"]
    for priority in others:
        yield Binding(names.exchange, queue, names.routing_key(name, action, priority))
    if module.mobile_priority:
        yield Binding(names.mobile_exchange, queue, names.mobile_key(name, action))
    if module.business_critical:
        yield Binding(names.critical_exchange, queue, names.critical_key(name, action))
    if module.ai_routing:
        yield Binding(names.automation_exchange, queue)
    dead = names.dead_letter_exchange(name)
    yield Binding(dead, names.dead_letter_queue(name, action), names.dead_letter_key(name, action))
    for consumed in _consumed(names, name, module, action):
        for attempt in range(1, attempts + 1):
            yield Binding(dead, names.retry_queue(consumed, attempt), names.retry_key(consumed, attempt))


def _policies(tenant: Tenant, catalog: Catalog) -> Iterator[Policy]:
    """Yield one policy per module, one for dead letters, one per retry queue, and the plan's depth limit."""
    names, retry, dead = tenant.names, catalog.retry, catalog.dead_letters
    for name in tenant.modules:
        definition = _module_definition(catalog.modules[name], catalog)
        yield Policy(names.module_policy(name), "policy", names.module_objects(name), 1, "queues", definition)
    kept = {"message-ttl": dead.retention, "max-length": dead.max_length, "max-length-bytes": dead.max_bytes}
    definition = {**kept, **_NEVER_GIVEN_UP}
    yield Policy(names.dead_letter_policy, "policy", names.dead_letter_objects, 2, "queues", definition)
    for attempt in range(1, retry.limit + 1) if retry.strategy == "queues" else ():
        definition = {"message-ttl": retry.delay(attempt), **_NOTHING_LOST}
        yield Policy(names.retry_policy(attempt), "policy", names.retry_objects(attempt), 3, "queues", definition)
    scaling = catalog.plans[tenant.plan].scaling
    definition = {
        "max-length": scaling.max_queue_depth,
        "max-length-bytes": scaling.max_queue_bytes,
        "overflow": "reject-publish",
    }
    yield Policy(names.scaling_policy, "operator", names.limited_objects, 10, "queues", definition)


def _module_definition(module: Module, catalog: Catalog) -> Definition:
    retry = catalog.retry
    definition: dict[str, str | int] = {"message-ttl": module.retention, "delivery-limit": retry.limit, **_NOTHING_LOST}
    if retry.strategy == "native":
        definition["delayed-retry-type"] = "all"
        definition["delayed-retry-min"] = retry.first_delay
        definition["delayed-retry-max"] = retry.max_delay
    if module.mobile_priority:
        definition["max-length"] = catalog.mobile.max_length
    return definition
