"""From predictions to one of a queue's priorities."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from kryonix.routing.numbers import Number

HIGHEST = 10
"""The most urgent that a model gives, the same as a sender can ask for."""
LEVELS = 8
"""Thresholds between HIGHEST and the lowest ordinary priority, 2."""
LAST = 1


@dataclass(frozen=True, slots=True)
class Index:
    """A weighted sum of the logarithms of the time left and of the handling time, both in ms."""

    left: Number
    time: Number

    def of(self, left: float, time: float) -> float:
        return self.left * left + self.time * time


@dataclass(frozen=True, slots=True)
class Last:
    """What may wait for everything else: messages whose index is above a value."""

    index: Index
    above: Number


@dataclass(frozen=True, slots=True)
class Policy:
    """Cut an index into priorities: HIGHEST up to the first level, 2 above the last level, and 1 for what goes last."""

    index: Index
    levels: tuple[Number, ...]
    last: Last | None = None

    def __post_init__(self) -> None:
        if len(self.levels) != LEVELS or list(self.levels) != sorted(self.levels):
            raise ValueError(f"levels are not {LEVELS} ascending numbers")

    def priority(self, left: float, time: float) -> int:
        """Return the priority for a time left and a handling time (logarithms of ms)."""
        if self.last is not None and self.last.index.of(left, time) > self.last.above:
            return LAST
        return HIGHEST - bisect_left(self.levels, self.index.of(left, time))
