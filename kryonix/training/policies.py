"""Choose how predictions become priorities: the policy with the fewest missed deadlines in replays at three loads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kryonix.routing.policy import HIGHEST, LAST, LEVELS, Index, Last, Policy
from kryonix.training.lessons import LOADS
from kryonix.training.predictors import Chosen
from kryonix.training.replay import Numbers, Priorities, Traffic, Waits, simulate

AGEING: Final = 2.0
"""A policy may make the longest wait this many times as long as the rules' longest, in the replays that choose it.

Or as long as the tuned table's: the rules let messages expire, and those that are saved instead take the others' time.
"""

_TRIFLE: Final = 0.001
"""Of the cost: a smaller gain is none."""
_PATIENCE: Final = 40
"""Changes without a gain, after which a search ends."""
_FEW: Final = 2
"""Messages added to both sides of a ratio, so that one or two decide nothing."""
_SEED: Final = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Messages with their predictions, which have not seen them, and what was or may have been true of them."""

    traffic: Traffic
    left: Numbers
    time: Numbers
    rules: Priorities
    explored: Chosen


def priorities(policy: Policy, sample: Sample) -> Priorities:
    """Return the priority of each message, as `Decider.choose` does for one."""
    found = HIGHEST - np.searchsorted(policy.levels, policy.index.left * sample.left + policy.index.time * sample.time)
    if policy.last is not None:
        index = policy.last.index
        found = np.where(index.left * sample.left + index.time * sample.time > policy.last.above, LAST, found)
    kept = (sample.rules >= 8) | sample.traffic.stated
    found = np.where(kept, np.maximum(found, sample.rules), found)
    return np.where(sample.explored, sample.rules, found)


@dataclass(frozen=True, slots=True)
class Shape:
    """A policy before it is cut to a sample: shares of messages instead of values of an index."""

    time: float
    """The weight of the handling time; that of the time left is 1, or 0 if this is infinite."""
    cuts: tuple[float, ...]
    last_time: float
    last_share: float
    """Of the messages that go last; 0 for none."""

    def policy(self, sample: Sample) -> Policy:
        index = _index(self.time)
        values = np.sort(index.left * sample.left + index.time * sample.time)
        last = None
        if self.last_share > 0:
            behind = _index(self.last_time)
            above = np.quantile(behind.left * sample.left + behind.time * sample.time, 1 - self.last_share)
            last = Last(behind, _rounded(float(above)))
        levels = tuple(sorted(_rounded(float(np.quantile(values, cut))) for cut in self.cuts))
        return Policy(index, levels, last)


def _index(time: float) -> Index:
    size = float(np.hypot(1.0, time))
    return Index(_rounded(1 / size), _rounded(time / size))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


_TEMPLATES: Final = (
    (0.11, 0.22, 0.33, 0.44, 0.56, 0.67, 0.78, 0.89),
    (0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.75, 0.9),
    (0.15, 0.25, 0.35, 0.45, 0.6, 0.7, 0.8, 0.9),
)
_TIMES: Final = (0.0, 0.5, -0.5, 2.0)
_LASTS: Final = ((0.0, 0.0), (1.0, 0.1), (5.0, 0.3), (0.0, 0.4))


def best_policy(sample: Sample, table: Priorities, *, budget: int = 260) -> Policy:
    """Return the policy with the least cost: start from a grid, then change the best few step by step."""
    cost = _Cost(sample, table)
    random = np.random.default_rng(_SEED)
    starts = [Shape(time, cuts, *last) for cuts in _TEMPLATES for time in _TIMES for last in _LASTS]
    ranked = sorted(((cost(shape), number, shape) for number, shape in enumerate(starts)))
    best_cost, _, best = ranked[0]
    for start_cost, _, start in ranked[:3]:
        found_cost, found, since = start_cost, start, 0
        for _ in range((budget - len(starts)) // 3):
            changed = _changed(found, random)
            changed_cost = cost(changed)
            if changed_cost < found_cost - _TRIFLE:
                found_cost, found, since = changed_cost, changed, 0
            elif (since := since + 1) >= _PATIENCE:
                break
        if found_cost < best_cost:
            best_cost, best = found_cost, found
    return best.policy(sample)


def _changed(shape: Shape, random: np.random.Generator) -> Shape:
    """Return the shape with one or two of its numbers changed."""
    for _ in range(random.integers(1, 3)):
        match int(random.integers(4)):
            case 0:
                shape = replace(shape, time=float(np.clip(shape.time + random.normal(0, 0.5), -3, 10)))
            case 1:
                share = (
                    0.0 if random.random() < 0.2 else float(np.clip(shape.last_share + random.normal(0, 0.1), 0, 0.7))
                )
                shape = replace(shape, last_share=share)
            case 2:
                shape = replace(shape, last_time=float(np.clip(shape.last_time + random.normal(0, 1), -3, 10)))
            case _:
                cuts = np.array(shape.cuts)
                one = random.integers(LEVELS)
                cuts[one:] = cuts[one:] + random.normal(0, 0.08) if random.random() < 0.5 else cuts[one:]
                cuts[one] += random.normal(0, 0.08)
                shape = replace(shape, cuts=tuple(sorted(np.clip(cuts, 0.002, 0.998).tolist())))
    return shape


class _Cost:
    """Missed deadlines against the rules', at the load where that is worst above all; long waits cost much more.

    Half of it counts what was nearly or hardly missed, too: otherwise few misses would be left to tell policies apart.
    """

    def __init__(self, sample: Sample, table: Priorities) -> None:
        self._sample = sample
        self._replays = [(traffic := sample.traffic.at(load), simulate(traffic, sample.rules)) for load in LOADS]
        self._tables = [simulate(traffic, table).longest for traffic, _ in self._replays]

    def __call__(self, shape: Shape) -> float:
        chosen = priorities(shape.policy(self._sample), self._sample)
        ratios, excess = [], 0.0
        for (traffic, rules), tabled in zip(self._replays, self._tables, strict=True):
            found = simulate(traffic, chosen)
            ratios.append((softly_missed(traffic, found) + _FEW) / (softly_missed(traffic, rules) + _FEW))
            excess += max(found.longest / max(rules.longest, tabled / AGEING, 1.0) - AGEING, 0)
        return float(np.log(np.mean(np.square(ratios)))) / 2 + excess


def softly_missed(traffic: Traffic, found: Waits) -> float:
    """Return the missed messages, each counted half by whether it was missed, and half by how close it came."""
    part = np.maximum(found.waits, 0.01) / np.maximum(traffic.deadlines, 0.01)
    return float(0.5 * (1 / (1 + part**-2.0)).sum() + 0.5 * found.missed.sum())
