"""One action's outcomes as numbers to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kryonix.routing.known import EXPLORES, Known, draw, rules_priority
from kryonix.routing.outcomes import Outcome
from kryonix.training.predictors import Chosen, Labels, Predictors, matrix, score
from kryonix.training.replay import Numbers, Priorities, Traffic, count_servers

LOADS: Final = (0.8, 0.95, 1.1)
_SHORTEST_MS: Final = 1.0
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Lesson:
    """An action's messages in the order in which they were sent."""

    known: Sequence[Known]
    traffic: Traffic
    """With the deadline of a message that states none unknown: infinite, until `completed`."""
    time: Labels
    left: Labels
    saving: Labels | None
    rules: Priorities

    def __len__(self) -> int:
        return len(self.known)

    def part(self, begin: int, end: int) -> Lesson:
        """Return the messages from one number to before another."""
        at = slice(begin, end)
        traffic = replace(
            self.traffic,
            arrivals=self.traffic.arrivals[at],
            handlings=self.traffic.handlings[at],
            deadlines=self.traffic.deadlines[at],
            stated=self.traffic.stated[at],
        )
        saving = None if self.saving is None else Labels(self.saving.values[at], self.saving.known[at])
        time, left = (Labels(each.values[at], each.known[at]) for each in (self.time, self.left))
        return Lesson(self.known[at], traffic, time, left, saving, self.rules[at])

    def predicted(self, predictors: Predictors) -> tuple[Numbers, Numbers]:
        """Return the predicted logarithms of handling time and time left."""
        rows = matrix(self.known, predictors.shapes, predictors.unknown)
        return score(predictors.time, rows), score(predictors.left, rows)

    def left_of(self, predicted: Numbers) -> Numbers:
        """Return the logarithms of the times left: as stated, or else as predicted."""
        return np.where(self.traffic.stated, np.log(np.maximum(self.traffic.deadlines, 1.0)), predicted)

    def completed(self, time: Numbers, left: Numbers) -> Traffic:
        """Return the traffic with plausible values for what nobody saw: predictions, wrong as those that were seen."""
        random = np.random.default_rng(_SEED)

        def filled(labels: Labels, predicted: Numbers) -> Numbers:
            errors = (labels.values - predicted)[labels.known]
            wrong = random.choice(errors, len(predicted)) if len(errors) else np.zeros(len(predicted))
            return np.where(labels.known, labels.values, predicted + wrong)

        stated = self.traffic.stated
        deadlines = np.where(stated, self.traffic.deadlines, _milliseconds(filled(self.left, left)))
        handlings = _milliseconds(filled(self.time, time))
        return replace(self.traffic, handlings=handlings, deadlines=deadlines)

    def explored(self, share: float) -> Chosen:
        """Return which messages a model leaves to the rules."""
        return np.array([draw(each.message_id, EXPLORES) < share for each in self.known])


def lesson_of(outcomes: Sequence[Outcome]) -> Lesson:
    """Return an action's outcomes, sorted by time, as numbers."""
    arrivals = np.array([each.at * 1000 for each in outcomes])
    waits = np.array([_number(each.waited_ms) for each in outcomes])
    handled = np.array([_number(each.handled_ms) for each in outcomes])
    expiries = np.array([_number(each.expires_ms) for each in outcomes])
    # The broker's own expiry is seen too: the retention of the module.
    seen = np.array([each.outcome == "expired" and each.expires_ms is None for each in outcomes])
    lefts = np.where(seen, waits, expiries)
    stated = ~np.isnan(expiries)
    finished = ~np.isnan(waits) & ~np.isnan(handled)
    servers = count_servers(arrivals[finished], waits[finished], handled[finished]) if finished.any() else 1
    traffic = Traffic(
        arrivals - (arrivals[0] if len(arrivals) else 0),
        np.where(np.isnan(handled), np.nanmedian(handled) if finished.any() else _SHORTEST_MS, handled),
        np.where(stated, expiries, np.inf),
        stated,
        servers,
    )
    tried = [each for each in outcomes if each.compressed_bytes is not None and each.bytes]
    ratios = np.array([_ratio(each) for each in outcomes])
    return Lesson(
        [each.known for each in outcomes],
        traffic,
        _logarithms(handled),
        _logarithms(lefts),
        Labels(np.where(np.isnan(ratios), 0.0, ratios), ~np.isnan(ratios)) if tried else None,
        np.array([rules_priority(each.priority, each.expires_ms) for each in outcomes]),
    )


def _milliseconds(logarithms: Numbers) -> Numbers:
    """Return times whose sum is finite, whatever was predicted."""
    found: Numbers = np.exp(np.minimum(logarithms, 40.0))
    return found


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _ratio(outcome: Outcome) -> float:
    if outcome.compressed_bytes is None or not outcome.bytes:
        return np.nan
    return float(np.log(max(outcome.compressed_bytes, 1) / outcome.bytes))


def _logarithms(values: Numbers) -> Labels:
    known = ~np.isnan(values)
    return Labels(np.log(np.maximum(np.where(known, values, 1.0), _SHORTEST_MS)), known)
