"""Compare two expansions: objects added, removed, changed in place or replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kryonix.topology.expansion import Topology
from kryonix.topology.objects import KINDS

Action = Literal["add", "remove", "change", "replace"]

_IMMUTABLE: Final = frozenset(kind.name for kind in KINDS.values() if kind.immutable)
_HOLDS_MESSAGES: Final = frozenset(kind.name for kind in KINDS.values() if kind.holds_messages)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of an object."""

    tenant: str
    kind: str
    """`tenant`, `vhost`, `permissions`, or the name of an ObjectKind."""
    action: Action
    name: str
    before: Any = None
    after: Any = None

    @property
    def loses_messages(self) -> bool:
        """Return True if applying the change deletes messages."""
        return self.kind in _HOLDS_MESSAGES and self.action in ("remove", "replace")


def compare(before: Iterable[Topology], after: Iterable[Topology]) -> Iterator[Change]:
    """Yield every change from one list of expansions to another, tenants in alphabetical order."""
    old = {topology.tenant.id: topology for topology in before}
    new = {topology.tenant.id: topology for topology in after}
    for tenant in sorted(old.keys() | new.keys()):
        if old.get(tenant) != new.get(tenant):
            yield from _compare_tenant(tenant, old.get(tenant), new.get(tenant))


def _compare_tenant(tenant: str, old: Topology | None, new: Topology | None) -> Iterator[Change]:
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
            yield Change(tenant, kind, "replace" if kind in _IMMUTABLE else "change", name, was[key], now[key])


def _objects(topology: Topology | None) -> Mapping[tuple[str, str], Any]:
    if topology is None:
        return {}
    limits = {**topology.limits.model_dump(), "max_connections": topology.max_connections}
    return {
        ("vhost", topology.vhost): limits,
        ("permissions", topology.user): topology.granted,
        **{(kind.name, name): value for kind, name, value in topology.objects()},
    }
