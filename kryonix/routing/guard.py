"""What ends a model's use: other messages than it learned from, wrong predictions, or more missed deadlines."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kryonix.routing.known import Known
from kryonix.routing.numbers import Number

if TYPE_CHECKING:
    from kryonix.routing.learned import Errors

WINDOW: Final = 1_000
"""Messages over which drift is measured."""
DRIFT: Final = 0.25
"""Of the population stability index, above what is ordinary for windows of this length."""
STEP: Final = 250
"""Messages between two looks at the drift."""
_ERRORS: Final = 200
"""Over so many their mean is taken. A longer memory would hide for too long that what few state has changed."""
_WORSE: Final = 2.0
_RIGHT: Final = 0.05
"""An error (logarithm) up to which a prediction is right: a smaller one may double."""
SURE: Final = 200.0
"""Odds against chance at which the rules' share is believed to be better, at whatever moment one looks."""
_FEWEST_MISSES: Final = 20
_USUAL_DIFFERENCE: Final = 0.05
"""Of the two shares, before anything is known."""
_LEAST: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Spread:
    """How one feature of the training's messages was spread over bins, and how far a window of them drifts."""

    edges: tuple[Number, ...]
    """Upper ends of a number's bins; empty for names."""
    names: tuple[str, ...]
    """Names with a bin of their own; the last bin is for all others."""
    shares: tuple[Number, ...]
    ordinary: Number
    """The index that windows of ordinary messages stay within: half more than any of the training's own."""

    def __post_init__(self) -> None:
        if len(self.shares) != self.bins:
            raise ValueError(f"{len(self.shares)} shares for {self.bins} bins")

    @property
    def bins(self) -> int:
        """Of numbers: the first is for none given."""
        return len(self.names) + 1 if self.names else len(self.edges) + 2

    def bin(self, value: Any) -> int:
        if self.names:
            return self.names.index(value) if value in self.names else len(self.names)
        return 0 if value is None else 1 + bisect_left(self.edges, value)

    def index(self, counts: Counter[int]) -> float:
        """Return the population stability index of counts by bin against the training's shares."""
        total = counts.total()
        found = 0.0
        for number, share in enumerate(self.shares):
            here, there = max(counts[number] / total, _LEAST), max(share, _LEAST)
            found += (here - there) * math.log(here / there)
        return found


WATCHED: Final = ("shape", "bytes", "device", "priority", "expires_ms")
"""Fields of a known message. Not hour and weekday: they drift every hour."""
_TEXTS: Final = ("shape", "device")


@dataclass(frozen=True, slots=True)
class Usual:
    """The training's messages by feature: a name of WATCHED to its spread."""

    spreads: Mapping[str, Spread]

    def __post_init__(self) -> None:
        if unknown := self.spreads.keys() - set(WATCHED):
            raise ValueError(f"{', '.join(sorted(unknown))}: no feature that is watched")
        for name in _TEXTS:
            if name in self.spreads and not self.spreads[name].names:
                raise ValueError(f"{name} is text, and its spread has no names")


class Guard:
    """Watch one action's model. Once `problem` says something, the model is not to be used any more."""

    def __init__(self, usual: Usual, errors: Errors) -> None:
        self._usual = usual
        self._step: list[Known] = []
        self._counts: dict[str, deque[Counter[int]]] = {name: deque(maxlen=WINDOW // STEP) for name in usual.spreads}
        self._wrong = {"handling times": _Rolling(errors.time), "times left": _Rolling(errors.left)}
        self._trial = Trial()
        self.drifts: dict[str, float] = {}
        """The index of each feature at the last look."""
        self.problem: str | None = None

    def decided(self, known: Sequence[Known]) -> None:
        """Count decided messages, STEP at most: the same object for those that no feature tells apart."""
        self._step += known
        if len(self._step) >= STEP:
            step, self._step = self._step[:STEP], self._step[STEP:]
            self._look(step)

    def stated(self, left_error: float | None) -> None:
        """Count the error of a time left (logarithm), if the sender stated it."""
        if left_error is not None:
            self._count_error("times left", left_error)

    def _look(self, step: Sequence[Known]) -> None:
        # Many are the same object.
        times = Counter(map(id, step))
        different = {id(known): known for known in step}
        for name, spread in self._usual.spreads.items():
            counts = self._counts[name]
            counts.append(Counter())
            for key, known in different.items():
                counts[-1][spread.bin(getattr(known, name))] += times[key]
            if len(counts) < WINDOW // STEP:
                continue
            drift = self.drifts[name] = spread.index(sum(counts, Counter[int]()))
            if drift - spread.ordinary > DRIFT:
                problem = f"{name} is spread differently: stability index {drift:.2f}"
                self._end(f"{problem}, usual up to {spread.ordinary:.2f}, at most {DRIFT} more")

    def became(self, time_error: float | None, missed: bool | None, *, by_rules: bool) -> None:
        """Count an outcome: the error of the handling time (logarithm), and whether a deadline was missed, if known."""
        if time_error is not None:
            self._count_error("handling times", time_error)
        if missed is not None:
            self._trial.add(missed, by_rules=by_rules)
            if self._trial.odds > SURE:
                self._end(f"the model's share misses more deadlines than the rules': {self._trial}")

    def _count_error(self, kind: str, error: float) -> None:
        wrong = self._wrong[kind]
        wrong.add(abs(error))
        if wrong.has_doubled:
            means = f"{wrong.mean:.2f}, in training {wrong.usual:.2f}"
            self._end(f"the error of predicted {kind} has doubled: {means} (natural logarithm)")

    def _end(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem


class _Rolling:
    """The mean of the last errors, against the usual one."""

    def __init__(self, usual: float) -> None:
        self.usual = usual
        self._errors: deque[float] = deque()
        self._total = 0.0

    def add(self, error: float) -> None:
        self._errors.append(error)
        self._total += error
        if len(self._errors) > _ERRORS:
            self._total -= self._errors.popleft()

    @property
    def mean(self) -> float:
        return self._total / len(self._errors)

    @property
    def has_doubled(self) -> bool:
        return len(self._errors) >= _ERRORS and self.mean > _WORSE * max(self.usual, _RIGHT)


class Trial:
    """A sequential test of two shares of missed deadlines. One may look at its odds after every message."""

    def __init__(self) -> None:
        self._missed = [0, 0]
        self._seen = [0, 0]

    def add(self, missed: bool, *, by_rules: bool) -> None:
        self._seen[by_rules] += 1
        self._missed[by_rules] += missed

    @property
    def odds(self) -> float:
        """Odds that the model's share is worse, against chance: a mixture sequential probability ratio.

        Johari et al., "Always Valid Inference" (2015), for the difference of two shares.
        """
        model, rules = self._seen
        if min(self._seen) < _FEWEST_MISSES or sum(self._missed) < _FEWEST_MISSES:
            return 1.0
        difference = self._missed[0] / model - self._missed[1] / rules
        if difference <= 0:
            return 1.0
        common = (sum(self._missed) + 1) / (sum(self._seen) + 2)
        variance = common * (1 - common) * (1 / model + 1 / rules)
        prior = _USUAL_DIFFERENCE**2
        evidence = difference**2 * prior / (2 * variance * (variance + prior))
        return math.sqrt(variance / (variance + prior)) * math.exp(min(evidence, 500))

    def __str__(self) -> str:
        (model, rules), (seen, seen_rules) = self._missed, self._seen
        return f"{model:,} of {seen:,} against {rules:,} of {seen_rules:,}"
