"""A whole review: what differs, what is held back, and what a reader should know of how it was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kryonix.review.acceptance import Judgement
from kryonix.review.differences import TenantDifference, nameless
from kryonix.review.guardrails import exit_status
from kryonix.topology.comparison import Change

__all__ = ["Group", "Review", "grouped"]


@dataclass(frozen=True)
class Group:
    """Tenants to which exactly the same happens, apart from their names; `first` stands for all."""

    tenants: tuple[str, ...]
    first: TenantDifference

    @property
    def weight(self) -> tuple[bool, int, str]:
        """What is read first: losses, then what comes and goes, then changes in place; then the alphabet."""
        return not self.first.lost, ("removed", "changed", "added").index(self.first.kind), self.tenants[0]


@dataclass(frozen=True)
class Review:
    """What a change does, against a base."""

    base: str
    differences: tuple[TenantDifference, ...]
    judgement: Judgement | None = field(default_factory=Judgement)
    """None where the guardrails were not asked."""
    notes: tuple[str, ...] = ()
    fits: bool = True
    """Whether all tenants fit their plans; where one does not, `up` refuses, whatever has been accepted."""
    complete: bool = True
    """False if differences may be missing; the notes say why."""

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return grouped(self.differences)

    @property
    def lost(self) -> int:
        """Queues that are lost with the messages in them."""
        return sum(len(difference.lost) for difference in self.differences)

    def count(self, kind: str) -> int:
        """How many tenants are added, changed or removed."""
        return sum(difference.kind == kind for difference in self.differences)

    @property
    def exit_status(self) -> int:
        """0 where nothing holds the change back, else the status of what does."""
        return exit_status(self.judgement.blocking) if self.judgement else 0


def grouped(differences: Iterable[TenantDifference]) -> tuple[Group, ...]:
    """Equal differences together, in the order in which they are to be read."""
    found: dict[Any, list[TenantDifference]] = {}
    for difference in differences:
        found.setdefault(_likeness(difference), []).append(difference)
    groups = (Group(tuple(each.tenant for each in alike), alike[0]) for alike in found.values())
    return tuple(sorted(groups, key=lambda group: group.weight))


def _likeness(difference: TenantDifference) -> tuple[Any, ...]:
    """What two differences have in common where the same happens: everything but the tenant's name."""
    # A tenant that comes or goes whole is told by its choices: its objects follow from them.
    told = difference.changes if difference.kind == "changed" else ()
    changes = nameless(difference.tenant, "\n".join(_text(change) for change in told))
    choices = tuple((field.name, field.before, field.after) for field in difference.choices)
    limits = tuple((field.name, field.before, field.after) for field in difference.limits)
    return difference.kind, choices, limits, changes


def _text(change: Change) -> str:
    return f"{change.action} {change.kind} {change.name!r} {change.before!r} {change.after!r}"
