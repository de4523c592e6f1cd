"""What separates two expansions: which objects come, go, change in place or are replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kryonix.topology.expansion import Topology

__all__ = ["Action", "Change", "Kind", "compare"]

Kind = Literal["tenant", "vhost", "permissions", "exchange", "queue", "binding", "policy"]
Action = Literal["add", "remove", "change", "replace"]

# The broker can change none of an exchange's, a queue's or a binding's arguments: the object is deleted and made again.
_REPLACED: frozenset[Kind] = frozenset({"exchange", "queue", "binding"})


@dataclass(frozen=True, slots=True)
class Change:
    """One object that differs."""

    tenant: str
    kind: Kind
    action: Action
    name: str
    before: Any = None
    after: Any = None

    @property
    def loses_messages(self) -> bool:
        """Whether messages in the object are gone once this is applied."""
        return self.kind == "queue" and self.action in ("remove", "replace")


def compare(before: Iterable[Topology], after: Iterable[Topology]) -> Iterator[Change]:
    """Every change from one list of expansions to another, tenants in alphabetical order."""
    old = {topology.tenant.id: topology for topology in before}
    new = {topology.tenant.id: topology for topology in after}
    for tenant in sorted(old.keys() | new.keys()):
        yield from _tenant(tenant, old.get(tenant), new.get(tenant))


def _tenant(tenant: str, old: Topology | None, new: Topology | None) -> Iterator[Change]:
    if old == new:
        return
    if old is None or new is None:
        yield Change(tenant, "tenant", "add" if old is None else "remove", tenant)
    was, now = _objects(old), _objects(new)
    for key in (*was, *(key for key in now if key not in was)):
        kind, name = key
        if key not in now:
            yield Change(tenant, kind, "remove", name, before=was[key])
        elif key not in was:
            yield Change(tenant, kind, "add", name, after=now[key])
        elif was[key] != now[key]:
            yield Change(tenant, kind, "replace" if kind in _REPLACED else "change", name, was[key], now[key])


def _objects(topology: Topology | None) -> Mapping[tuple[Kind, str], Any]:
    if topology is None:
        return {}
    limits = {**topology.limits.model_dump(), "max_connections": topology.max_connections}
    objects: dict[tuple[Kind, str], Any] = {("vhost", topology.vhost): limits}
    objects["permissions", topology.user] = topology.granted
    objects.update({("exchange", exchange.name): exchange for exchange in topology.exchanges})
    objects.update({("queue", queue.name): queue for queue in topology.queues})
    for binding in topology.bindings:
        objects["binding", f"{binding.source} -> {binding.destination} [{binding.routing_key}]"] = binding
    objects.update({("policy", policy.name): policy for policy in topology.policies})
    return objects
