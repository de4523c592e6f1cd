"""The objects of a broker, and the one table of their kinds: counts, comparisons, displays and readers iterate over it.

A new kind takes a row here, a field of `Topology` filled by `expand`, a resource in `components/routing.py`,
a reader in `kryonix/policy/tenants.py` and a handler in `kryonix/engines/local/handlers`. A test fails for each
missing one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind of object in a vhost."""

    name: str
    plural: str
    resource_type: str
    """The type token of its Pulumi resource."""
    collection: str
    """The field of `Topology` for objects of this kind."""
    immutable: bool = False
    """The broker can't change such an object: it is deleted and declared again."""
    holds_messages: bool = False


EXCHANGE: Final = ObjectKind("exchange", "exchanges", "rabbitmq:index/exchange:Exchange", "exchanges", immutable=True)
QUEUE: Final = ObjectKind(
    "queue", "queues", "rabbitmq:index/queue:Queue", "queues", immutable=True, holds_messages=True
)
BINDING: Final = ObjectKind("binding", "bindings", "rabbitmq:index/binding:Binding", "bindings", immutable=True)
POLICY: Final = ObjectKind("policy", "policies", "rabbitmq:index/policy:Policy", "policies")
OPERATOR_POLICY: Final = ObjectKind(
    "operator policy", "operator policies", "rabbitmq:index/operatorPolicy:OperatorPolicy", "policies"
)

KINDS: Final[Mapping[str, ObjectKind]] = {
    kind.name: kind for kind in (EXCHANGE, QUEUE, BINDING, POLICY, OPERATOR_POLICY)
}
"""Every kind, by name."""

Arguments = Mapping[str, str | int]
Definition = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    object_kind: ClassVar[ObjectKind] = EXCHANGE
    name: str
    type: Literal["topic", "direct", "fanout"]
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue. Its arguments can never change; mutable settings are in policies."""

    object_kind: ClassVar[ObjectKind] = QUEUE
    name: str
    arguments: Arguments
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding from an exchange to a queue. A fanout exchange ignores the routing key."""

    object_kind: ClassVar[ObjectKind] = BINDING
    source: str
    destination: str
    routing_key: str = ""

    @property
    def name(self) -> str:
        """The broker names no binding: its two ends and its key tell it from others."""
        return f"{self.source} -> {self.destination} [{self.routing_key}]"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy or operator policy: of each kind the one of the highest priority applies to a queue."""

    name: str
    kind: Literal["policy", "operator"]
    pattern: str
    priority: int
    apply_to: Literal["queues"]
    definition: Definition

    @property
    def object_kind(self) -> ObjectKind:
        return OPERATOR_POLICY if self.kind == "operator" else POLICY


def effective_policy(queue: str, policies: Iterable[Policy]) -> dict[str, Any]:
    """Return what the broker makes of a queue's policy and operator policy: of two numbers the lower one."""
    merged: dict[str, Any] = {}
    matching = [each for each in policies if re.search(each.pattern, queue)]
    for kind in ("policy", "operator"):
        best = max((each for each in matching if each.kind == kind), key=lambda each: each.priority, default=None)
        for key, value in (best.definition if best else {}).items():
            both = key in merged and isinstance(value, int)
            merged[key] = min(merged[key], value) if both else value
    return merged


@dataclass(frozen=True, slots=True)
class VhostState:
    """An existing vhost."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """An existing queue with its number of messages, ready and unacknowledged."""

    vhost: str
    name: str
    arguments: Mapping[str, Any]
    messages: int
    down: bool = False
    """True while too few of its members are online to count its messages."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """A user's permissions in its vhost, as patterns of names."""

    configure: str
    write: str
    read: str


NO_PERMISSIONS: Final = Permissions("^$", "^$", "^$")
"""A user with any permissions in a vhost, even these, sees its figures."""
