"""Replay an action's own arrivals under a model, and under what it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from kryonix.errors import InvalidChoice
from kryonix.routing.guard import Guard
from kryonix.routing.health import watch
from kryonix.routing.learned import Decider, Learned
from kryonix.routing.model import Model
from kryonix.routing.outcomes import Outcome, by_action
from kryonix.training.lessons import LOADS, lesson_of
from kryonix.training.policies import Sample, priorities
from kryonix.training.replay import Numbers, Priorities, Traffic, Waits, simulate
from kryonix.training.training import best_table, truth_of

FEWEST: Final = 500
"""Messages of an action to replay."""
URGENT_PART: Final = 0.1
"""Of the messages, those with the shortest deadlines: the urgent ones of the figures."""
_BLOCKS: Final = 20
"""Stretches of time that are drawn again for the intervals: neighbours miss their deadlines together."""
_DRAWS: Final = 500
_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class Figure:
    """What one way of deciding gives at one load. Shares are of all messages; `low` to `high` is 95 % likely."""

    missed: float
    low: float
    high: float
    urgent_p95_ms: float
    """Wait of the tenth with the shortest deadlines."""
    p99_ms: float
    longest_ms: float


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """One load, by way: fifo, rules, table, model, shuffled (the model's predictions at random), oracle."""

    load: float
    ways: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Logged:
    """Deadlines missed in reality, of the share that a model decided or that it left to the rules."""

    messages: int
    missed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ActionEvaluation:
    """One action. `logged` is empty for outcomes from before a model was in use."""

    action: str
    messages: int
    replayed: int
    """The later half of the messages: from the earlier one the table is made."""
    servers: int
    loads: tuple[LoadFigures, ...]
    logged: Mapping[str, Logged]
    fallback_after: int | None
    """Messages until the model would have fallen back to the rules; None if it would not."""
    fallback_why: str | None
    overlaps: bool
    """True if the model may have learned from these very messages: then its figures flatter it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All actions of a model with enough outcomes, and why others are left out."""

    version: str
    actions: tuple[ActionEvaluation, ...]
    left_out: Mapping[str, str]


def evaluate(model: Model, outcomes: Sequence[Outcome], *, progress: Callable[[str], None] | None = None) -> Evaluation:
    """Replay the outcomes. Raises InvalidChoice if no action of the model has enough of them."""
    found, left_out = [], {}
    for action, messages in by_action(outcomes).items():
        if action not in model.actions:
            left_out[action] = model.refused.get(action, "the model does not know it")
        elif len(messages) < FEWEST:
            left_out[action] = f"{len(messages):,} messages, at least {FEWEST} are needed"
        else:
            if progress is not None:
                progress(f"{action}: replaying {len(messages):,} messages")
            overlaps = messages[0].at <= model.until_at.timestamp()
            found.append(_evaluated(action, model.actions[action], model.explore, messages, overlaps))
    if not found:
        reasons = "; ".join(f"{action}: {why}" for action, why in left_out.items()) or "there are no outcomes"
        raise InvalidChoice(f"nothing can be evaluated: {reasons}. Give outcomes of the model's actions")
    return Evaluation(model.version, tuple(found), left_out)


def _evaluated(
    action: str, learned: Learned, explore: float, outcomes: Sequence[Outcome], overlaps: bool
) -> ActionEvaluation:
    whole = lesson_of(outcomes)
    half = len(whole) // 2
    early, late = whole.part(0, half), whole.part(half, len(whole))
    table = best_table(early, truth_of(early))
    decider = Decider(learned, explore)
    predictions = [decider.predict(each) for each in late.known]
    time, left = (np.array([getattr(each, name) for each in predictions]) for name in ("time", "left"))
    truth = truth_of(late)
    sample = Sample(truth, late.left_of(left), time, late.rules, late.explored(explore))
    mixed = np.random.default_rng(_SEED).permutation(len(late))
    shuffled = Sample(truth, late.left_of(left[mixed]), time[mixed], late.rules, late.explored(explore))
    ways = {
        "fifo": np.full(len(late), 5),
        "rules": late.rules,
        "table": table.of(late.known, late.rules),
        "model": priorities(learned.policy, sample),
        "shuffled": priorities(learned.policy, shuffled),
    }
    after, why = fallback(learned, outcomes)
    return ActionEvaluation(
        action=action,
        messages=len(whole),
        replayed=len(late),
        servers=whole.traffic.servers,
        loads=tuple(_at(truth.at(load), load, ways) for load in LOADS),
        logged=_logged(outcomes),
        fallback_after=after,
        fallback_why=why,
        overlaps=overlaps,
    )


def _at(traffic: Traffic, load: float, ways: Mapping[str, Priorities]) -> LoadFigures:
    urgent = traffic.deadlines <= np.quantile(traffic.deadlines, URGENT_PART)
    found = {name: _figure(simulate(traffic, chosen), urgent) for name, chosen in ways.items()}
    oracles = [simulate(traffic, chosen) for chosen in oracle(traffic)]
    found["oracle"] = _figure(min(oracles, key=lambda each: each.share_missed), urgent)
    return LoadFigures(load, found)


def oracle(traffic: Traffic) -> list[Priorities]:
    """Return the priorities of who knows every deadline and handling time, for some weights of the two."""
    left, time = np.log(np.maximum(traffic.deadlines, 1.0)), np.log(np.maximum(traffic.handlings, 1.0))
    return [_ranked(left + weight * time) for weight in (0.0, 0.3, 1.0)]


def _ranked(index: Numbers) -> Priorities:
    """Return priorities 10 to 0 for eleven parts of the same size."""
    return 10 - np.argsort(np.argsort(index)) * 11 // len(index)


def _figure(found: Waits, urgent: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Figure:
    low, high = _interval(found.missed.astype(float))
    waits = found.waits[~found.dropped]
    return Figure(
        missed=found.share_missed,
        low=low,
        high=high,
        urgent_p95_ms=float(np.quantile(found.waits[urgent], 0.95)),
        p99_ms=float(np.quantile(waits, 0.99)) if len(waits) else 0.0,
        longest_ms=found.longest,
    )


def _interval(values: Numbers) -> tuple[float, float]:
    """Return within what the mean lies with 95 % certainty, by drawing stretches of time again."""
    blocks = np.array([block.mean() for block in np.array_split(values, min(_BLOCKS, len(values)))])
    drawn = np.random.default_rng(_SEED).choice(blocks, (_DRAWS, len(blocks))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _logged(outcomes: Sequence[Outcome]) -> dict[str, Logged]:
    """Return the missed shares as they were, weighted by how often each decision is drawn for such a message."""
    found = {}
    for decision in ("learned", "explored"):
        rows = [
            (each.missed, 1 / max(each.propensity or 1.0, 0.001))
            for each in outcomes
            if each.decision == decision and each.missed is not None
        ]
        if len(rows) >= _BLOCKS:
            missed, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
            low, high = _interval(missed)
            found[decision] = Logged(len(rows), float(np.average(missed, weights=weights)), low, high)
    return found


def fallback(learned: Learned, outcomes: Sequence[Outcome]) -> tuple[int | None, str | None]:
    """Return after how many of these messages the guard ends the model's use, and why; None for never."""
    guard, decider = Guard(learned.usual, learned.errors), Decider(learned, explore=0)
    for number, each in enumerate(outcomes, 1):
        watch(guard, decider, each)
        if guard.problem is not None:
            return number, guard.problem
    return None, None
