"""Differences of tenants: before, after, the changes of objects, and groups of equal ones."""

from __future__ import annotations

import re
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


def compare(tenant: str, old: Topology | None, new: Topology | None) -> Iterator[Change]:
    """Yield every change of one tenant; None if a side does not have it."""
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
    return {
        ("vhost", topology.vhost): _limits(topology),
        ("permissions", topology.user): topology.granted,
        **{(kind.name, name): value for kind, name, value in topology.objects()},
    }


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A figure or choice of a tenant, before and after; None if a side has none."""

    name: str
    before: Any
    after: Any

    @property
    def differs(self) -> bool:
        return bool(self.before != self.after)


@dataclass(frozen=True, slots=True)
class TenantDifference:
    """The difference of one tenant."""

    tenant: str
    before: Topology | None
    after: Topology | None
    changes: tuple[Change, ...]

    @property
    def kind(self) -> Literal["added", "changed", "removed"]:
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def lost(self) -> tuple[Change, ...]:
        """Return the queues lost with their messages."""
        return tuple(change for change in self.changes if change.loses_messages)

    @property
    def choices(self) -> tuple[FieldChange, ...]:
        """Return the tenant's fields in the list of tenants."""
        was, now = (topology and topology.tenant for topology in (self.before, self.after))
        return (
            FieldChange("plan", was and was.plan, now and now.plan),
            FieldChange("modules", was and ", ".join(was.modules), now and ", ".join(now.modules)),
            FieldChange("status", was and was.status, now and now.status),
            FieldChange("cell", was and was.cell, now and now.cell),
            FieldChange("auth", was and was.auth, now and now.auth),
            FieldChange("notify", was and was.notify, now and now.notify),  # shows of a webhook only the host
        )

    @property
    def limits(self) -> tuple[FieldChange, ...]:
        """Return the limits; a suspended tenant has 0 connections."""
        was, now = _limits(self.before), _limits(self.after)
        return tuple(FieldChange(name, was.get(name), now.get(name)) for name in dict.fromkeys((*was, *now)))


def _limits(topology: Topology | None) -> dict[str, int]:
    return {**topology.limits.model_dump(), "max_connections": topology.max_connections} if topology else {}


def differences(before: Iterable[Topology], after: Iterable[Topology]) -> tuple[TenantDifference, ...]:
    """Return the differences of all tenants, in alphabetical order."""
    old = {topology.tenant.id: topology for topology in before}
    new = {topology.tenant.id: topology for topology in after}
    pairs = ((tenant, old.get(tenant), new.get(tenant)) for tenant in sorted(old.keys() | new.keys()))
    found = (
        TenantDifference(tenant, was, now, tuple(compare(tenant, was, now))) for tenant, was, now in pairs if was != now
    )
    return tuple(each for each in found if each.changes or any(field.differs for field in each.choices))


def nameless(tenant: str, text: str, stand_in: str = "{}") -> str:
    """Return a text with the tenant's id replaced: texts about two tenants compare equal."""
    return re.sub(rf"(?<![a-z0-9]){re.escape(tenant)}(?![a-z0-9-])", stand_in, text) if tenant else text


def renamed(found: Iterable[TenantDifference]) -> tuple[str, ...]:
    """Return notes on removed tenants with the modules and plan of an added one."""
    sides: dict[tuple[str, frozenset[str]], tuple[list[str], list[str]]] = {}
    for each in found:
        topology = each.before or each.after
        if each.kind != "changed" and topology is not None:
            key = (topology.tenant.plan, frozenset(topology.tenant.modules))
            sides.setdefault(key, ([], []))[each.before is None].append(each.tenant)
    pairs = sorted((gone[0], come[0]) for gone, come in sides.values() if len(gone) == len(come) == 1)
    return tuple(
        f"'{old}' is removed and '{new}' added with the same modules and plan. Renaming a tenant loses its data"
        for old, new in pairs
    )


@dataclass(frozen=True)
class Group:
    """Tenants with equal differences, apart from their names; `first` stands for all."""

    tenants: tuple[str, ...]
    first: TenantDifference


def grouped(differences: Iterable[TenantDifference]) -> tuple[Group, ...]:
    """Group equal differences: losses first, then removed, changed and added tenants, then by name."""
    found: dict[Any, list[TenantDifference]] = {}
    for difference in differences:
        found.setdefault(_likeness(difference), []).append(difference)
    order = ("removed", "changed", "added").index
    alikes = sorted(found.values(), key=lambda alike: (not alike[0].lost, order(alike[0].kind), alike[0].tenant))
    return tuple(Group(tuple(each.tenant for each in alike), alike[0]) for alike in alikes)


def _likeness(difference: TenantDifference) -> tuple[Any, ...]:
    """Return a key, the same for equal differences of two tenants."""
    # The objects of an added or removed tenant follow from its choices.
    compared = difference.changes if difference.kind == "changed" else ()
    texts = (f"{each.action} {each.kind} {each.name!r} {each.before!r} {each.after!r}" for each in compared)
    return difference.kind, difference.choices, difference.limits, nameless(difference.tenant, "\n".join(texts))
