"""From a tenant to everything it has on the broker: a pure function, and the plain objects it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from kryonix.topology.catalog import Catalog, Limits, Module
from kryonix.topology.naming import PRIORITIES, Names
from kryonix.topology.policies import Policy, policies
from kryonix.topology.tenants import Tenant

__all__ = ["NO_PERMISSIONS", "Binding", "Exchange", "Permissions", "Queue", "Topology", "expand"]

Arguments = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["topic", "direct", "fanout"]
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue. Its arguments can never change: what may change is in a policy."""

    name: str
    arguments: Arguments
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue. A fanout exchange ignores the routing key."""

    source: str
    destination: str
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Patterns of the names a user may configure, write to and read from in its vhost."""

    configure: str
    write: str
    read: str


NO_PERMISSIONS: Final = Permissions("^$", "^$", "^$")
"""Those of the users that read figures, too: they see a vhost that they have any entry for."""


@dataclass(frozen=True, slots=True)
class Topology:
    """All that one tenant has on the broker."""

    tenant: Tenant
    vhost: str
    user: str
    permissions: Permissions
    """What the user may do while the tenant is active; `granted` is what it may do now."""
    limits: Limits
    """What the plan allows. A suspended tenant has `max_connections` 0 on its vhost all the same."""
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    policies: tuple[Policy, ...]

    @property
    def max_connections(self) -> int:
        """Connections the vhost accepts: none while the tenant is suspended."""
        return 0 if self.tenant.status == "suspended" else self.limits.max_connections

    @property
    def granted(self) -> Permissions:
        """What the applications' users may do: nothing while the tenant is suspended."""
        return NO_PERMISSIONS if self.tenant.status == "suspended" else self.permissions

    @property
    def stats_tags(self) -> tuple[str, ...]:
        """Return the tags of the users that read figures. `management` lets a user see its own vhost's by HTTP.

        An application's user never has it: who may read messages could ask for whole queues by HTTP, and the broker
        builds each answer in memory, outside of its alarm.
        """
        return () if self.tenant.status == "suspended" else ("management",)


def expand(tenant: Tenant, catalog: Catalog) -> Topology:
    """A tenant's topology. The tenant's modules and plan must be in the catalog."""
    names = tenant.names
    modules = {name: catalog.modules[name] for name in tenant.modules}
    attempts = catalog.retry.limit if catalog.retry.strategy == "queues" else 0
    return Topology(
        tenant=tenant,
        vhost=names.vhost,
        user=names.user,
        permissions=Permissions(configure="^$", write=names.writable_objects, read=names.readable_objects),
        limits=catalog.plans[tenant.plan].limits,
        exchanges=tuple(_exchanges(names, modules)),
        queues=(_unrouted(names), *(queue for m in modules.items() for queue in _queues(names, *m, attempts))),
        bindings=tuple(_bindings(names, modules, attempts)),
        policies=tuple(policies(tenant, catalog)),
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


def _unrouted(names: Names) -> Queue:
    return Queue(names.unrouted, {"x-queue-type": "quorum"})


def _queues(names: Names, name: str, module: Module, attempts: int) -> Iterator[Queue]:
    for action in module.actions:
        arguments = {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": names.dead_letter_exchange(name),
            "x-dead-letter-routing-key": names.dead_letter_key(name, action),
        }
        for queue in _delivering(names, name, module, action):
            yield Queue(queue, arguments, name)
            for attempt in range(1, attempts + 1):
                yield _retry(names, queue, attempt, name)
        yield Queue(names.dead_letter_queue(name, action), {"x-queue-type": "quorum"}, name)


def _delivering(names: Names, name: str, module: Module, action: str) -> tuple[str, ...]:
    """The queues that an action's consumers read: its own, and one per priority lane."""
    lanes = (names.lane(name, action, lane) for lane in module.priority_lanes.get(action, ()))
    return (names.queue(name, action), *lanes)


def _retry(names: Names, queue: str, attempt: int, module: str) -> Queue:
    arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    return Queue(names.retry_queue(queue, attempt), arguments, module)


def _bindings(names: Names, modules: Mapping[str, Module], attempts: int) -> Iterator[Binding]:
    yield Binding(names.unrouted, names.unrouted)
    for name, module in modules.items():
        for action in module.actions:
            yield from _main_bindings(names, name, module, action)
            yield from _special_bindings(names, name, module, action)
            yield from _failure_bindings(names, name, module, action, attempts)


def _main_bindings(names: Names, name: str, module: Module, action: str) -> Iterator[Binding]:
    queue, lanes = names.queue(name, action), module.priority_lanes.get(action, ())
    for lane in lanes:
        yield Binding(names.exchange, names.lane(name, action, lane), names.routing_key(name, action, lane))
    if not lanes:
        yield Binding(names.exchange, queue, names.routing_key(name, action, "*"))
        return
    for priority in PRIORITIES:
        if priority not in lanes:
            yield Binding(names.exchange, queue, names.routing_key(name, action, priority))


def _special_bindings(names: Names, name: str, module: Module, action: str) -> Iterator[Binding]:
    queue = names.queue(name, action)
    if module.mobile_priority:
        yield Binding(names.mobile_exchange, queue, names.mobile_key(name, action))
    if module.business_critical:
        yield Binding(names.critical_exchange, queue, names.critical_key(name, action))
    if module.ai_routing:
        yield Binding(names.automation_exchange, queue)


def _failure_bindings(names: Names, name: str, module: Module, action: str, attempts: int) -> Iterator[Binding]:
    exchange = names.dead_letter_exchange(name)
    yield Binding(exchange, names.dead_letter_queue(name, action), names.dead_letter_key(name, action))
    for queue in _delivering(names, name, module, action):
        for attempt in range(1, attempts + 1):
            yield Binding(exchange, names.retry_queue(queue, attempt), names.retry_key(queue, attempt))
