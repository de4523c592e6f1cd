"""A complete review: differences, findings, and notes on how they were found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kryonix.review.acceptance import Judgement
from kryonix.review.differences import TenantDifference, nameless
from kryonix.review.guardrails import exit_status
from kryonix.topology.comparison import Change


@dataclass(frozen=True)
class Group:
    """Tenants with equal differences, apart from their names; `first` stands for all."""

    tenants: tuple[str, ...]
    first: TenantDifference

    @property
    def weight(self) -> tuple[bool, int, str]:
        """Sort losses first, then removed, changed and added tenants, then by name."""
        return not self.first.lost, ("removed", "changed", "added").index(self.first.kind), self.tenants[0]


@dataclass(frozen=True)
class Review:
    """A change, compared with a base."""

    base: str
    differences: tuple[TenantDifference, ...]
    judgement: Judgement | None = field(default_factory=Judgement)
    """None if the guardrails were not checked."""
    notes: tuple[str, ...] = ()
    fits: bool = True
    """False if a tenant does not fit its plan: `up` refuses then, even if the finding is accepted."""
    complete: bool = True
    """False if differences may be missing; the notes say why."""

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return grouped(self.differences)

    @property
    def lost(self) -> int:
        """Return the number of queues lost with their messages."""
        return sum(len(difference.lost) for difference in self.differences)

    def count(self, kind: str) -> int:
        """Return the number of added, changed or removed tenants."""
        return sum(difference.kind == kind for difference in self.differences)

    @property
    def exit_status(self) -> int:
        """Return 0 if nothing blocks the change, else the guardrail's status."""
        return exit_status(self.judgement.blocking) if self.judgement else 0


def grouped(differences: Iterable[TenantDifference]) -> tuple[Group, ...]:
    """Group equal differences, in reading order."""
    found: dict[Any, list[TenantDifference]] = {}
    for difference in differences:
        found.setdefault(_likeness(difference), []).append(difference)
    groups = (Group(tuple(each.tenant for each in alike), alike[0]) for alike in found.values())
    return tuple(sorted(groups, key=lambda group: group.weight))


def _likeness(difference: TenantDifference) -> tuple[Any, ...]:
    """Return a key, the same for equal differences of two tenants."""
    # The objects of a tenant that comes or goes whole follow from its choices.
    compared = difference.changes if difference.kind == "changed" else ()
    changes = nameless(difference.tenant, "\n".join(_text(change) for change in compared))
    choices = tuple((field.name, field.before, field.after) for field in difference.choices)
    limits = tuple((field.name, field.before, field.after) for field in difference.limits)
    return difference.kind, choices, limits, changes


def _text(change: Change) -> str:
    return f"{change.action} {change.kind} {change.name!r} {change.before!r} {change.after!r}"
