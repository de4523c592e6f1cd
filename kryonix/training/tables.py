"""The tuned static table: what a careful engineer would do without a model. A priority for each payload's shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from kryonix.routing.known import Known
from kryonix.training.lessons import Lesson
from kryonix.training.replay import Priorities

_CUTS: Final = (
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875),
    (0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8),
    (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8),
    (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
)
"""Shares of the messages between two priorities, from 9 downwards."""


@dataclass(frozen=True, slots=True)
class Table:
    """Priorities by shape, in the order of the median expiry seen.

    It keeps the promises that a model keeps: a priority of 8 or more is not lowered, nor a message with an expiry.
    """

    priorities: dict[str, int]

    def of(self, known: Sequence[Known], rules: Priorities) -> Priorities:
        found = np.array([self.priorities.get(each.shape, 5) for each in known])
        kept = (rules >= 8) | np.array([each.expires_ms is not None for each in known])
        return np.where(kept, np.maximum(found, rules), found)


def candidates(lesson: Lesson) -> list[Table]:
    """Return the tables to tune among: the order of the shapes is that of their median expiry, the cuts differ."""
    lefts: defaultdict[str, list[float]] = defaultdict(list)
    for number in np.flatnonzero(lesson.left.known).tolist():
        lefts[lesson.known[number].shape].append(lesson.left.values[number])
    counts: defaultdict[str, int] = defaultdict(int)
    for each in lesson.known:
        counts[each.shape] += 1
    usual = float(np.median(lesson.left.values[lesson.left.known])) if lesson.left.known.any() else 0.0
    order = sorted(counts, key=lambda name: (float(np.median(lefts[name])) if name in lefts else usual, name))
    found = []
    for cuts in _CUTS:
        priorities, before = {}, 0.0
        for name in order:
            middle = (before + counts[name] / 2) / len(lesson)
            before += counts[name]
            priorities[name] = 9 - int(np.searchsorted(cuts, middle))
        found.append(Table(priorities))
    return found
