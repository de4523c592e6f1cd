"""Everything about a tenant's queues that may change in place: policies, and the plan's operator policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from kryonix.topology.catalog import Catalog, Module, Retry, Scaling
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant

__all__ = ["Definition", "Policy", "policies"]

Definition = Mapping[str, str | int]

# At-least-once dead-lettering needs reject-publish: with drop-head the broker falls back to at-most-once.
# https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering
_NOTHING_LOST: Final[Definition] = {"dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}

# A dead letter goes nowhere from here: after the broker's own limit of 20 it would be deleted, and each connection that
# breaks while somebody reads the queue counts.
_NEVER_GIVEN_UP: Final[Definition] = {"delivery-limit": -1}


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy or operator policy: of each kind the one of the highest priority applies to a queue."""

    name: str
    kind: Literal["policy", "operator"]
    pattern: str
    priority: int
    apply_to: Literal["queues"]
    definition: Definition


def policies(tenant: Tenant, catalog: Catalog) -> Iterator[Policy]:
    """A tenant's policies: one per module, one for dead letters, one per retry queue, and the plan's depth limit."""
    names, retry, dead = tenant.names, catalog.retry, catalog.dead_letters
    for name in tenant.modules:
        module = catalog.modules[name]
        yield _policy(names.module_policy(name), names.module_objects(name), 1, _module(module, catalog))
    kept = {"message-ttl": dead.retention, "max-length": dead.max_length, "max-length-bytes": dead.max_bytes}
    yield _policy(names.dead_letter_policy, names.dead_letter_objects, 2, {**kept, **_NEVER_GIVEN_UP})
    if retry.strategy == "queues":
        yield from _retry_policies(names, retry)
    yield _depth_limit(names, catalog.plans[tenant.plan].scaling)


def _policy(name: str, pattern: str, priority: int, definition: Definition) -> Policy:
    return Policy(name, "policy", pattern, priority, "queues", definition)


def _module(module: Module, catalog: Catalog) -> Definition:
    definition: dict[str, str | int] = {
        "message-ttl": module.retention,
        "delivery-limit": catalog.retry.limit,
        **_NOTHING_LOST,
    }
    if catalog.retry.strategy == "native":
        definition["delayed-retry-type"] = "all"
        definition["delayed-retry-min"] = catalog.retry.first_delay
        definition["delayed-retry-max"] = catalog.retry.max_delay
    if module.mobile_priority:
        definition["max-length"] = catalog.mobile.max_length
    return definition


def _retry_policies(names: Names, retry: Retry) -> Iterator[Policy]:
    for attempt in range(1, retry.limit + 1):
        definition: Definition = {"message-ttl": retry.delay(attempt), **_NOTHING_LOST}
        yield _policy(names.retry_policy(attempt), names.retry_objects(attempt), 3, definition)


def _depth_limit(names: Names, scaling: Scaling) -> Policy:
    definition: Definition = {
        "max-length": scaling.max_queue_depth,
        "max-length-bytes": scaling.max_queue_bytes,
        "overflow": "reject-publish",
    }
    return Policy(names.scaling_policy, "operator", names.limited_objects, 10, "queues", definition)
