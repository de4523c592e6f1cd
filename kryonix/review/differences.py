"""Differences of tenants: before, after, and the changes of objects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from kryonix.topology.comparison import Change, compare
from kryonix.topology.expansion import Topology


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
        TenantDifference(tenant, was, now, tuple(compare([was] if was else [], [now] if now else [])))
        for tenant, was, now in pairs
        if was != now
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
