"""Train a model of each action, and refuse those that are not worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from kryonix.errors import InvalidChoice
from kryonix.routing.learned import Errors, Learned
from kryonix.routing.model import Model
from kryonix.routing.outcomes import Outcome, by_action
from kryonix.routing.policy import Policy
from kryonix.training.lessons import LOADS, Lesson, lesson_of
from kryonix.training.policies import AGEING, Sample, best_policy, priorities, softly_missed
from kryonix.training.predictors import MAX_SHAPES, TREES, Labels, Predictors, crossed, fit
from kryonix.training.replay import Numbers, Priorities, Traffic, simulate
from kryonix.training.spreads import usual
from kryonix.training.tables import Table, candidates

FEWEST: Final = 1_000
"""Messages of an action to learn from."""
FEWEST_STATED: Final = 100
"""Of them with a stated or seen expiry."""
EXPLORE: Final = 0.01
LEARNED_PART: Final = 0.7
"""Of the time; the rest is held out."""

LONGEST: Final = 2.5
"""The ageing bound: no held-out message may wait this many times as long as the longest by the rules.

Or, if that is longer, this many times half of the longest by the tuned table.
"""

_SEARCHED: Final = 12_000
"""Messages that the search for a policy replays."""
_LEAST_EXPLAINED: Final = 0.02
"""Of the variance of held-out times; below it nothing was learned."""
_BYTES_OF_TREE: Final = 320
_BYTES_OF_SHAPE: Final = 48
_FORESTS: Final = 2.25
"""Of the same number of trees: that of compression has a quarter."""
_BUDGET: Final = 800_000


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out figures at one load: shares of missed deadlines, and the longest waits in ms."""

    load: float
    rules: float
    table: float
    model: float
    longest_rules_ms: float
    longest_table_ms: float
    longest_model_ms: float

    @property
    def ageing(self) -> float:
        """The longest wait, against the longest by the rules, or half of that by the table if it is longer."""
        return self.longest_model_ms / max(self.longest_rules_ms, self.longest_table_ms / AGEING, 1.0)


@dataclass(frozen=True, slots=True)
class ActionReport:
    """How the training of one action went. `refused` says why it has no model."""

    action: str
    messages: int
    stated: int
    servers: int
    held: tuple[Held, ...] = ()
    explained_time: float | None = None
    """Share of the held-out variance of the logarithm that the predictions explain."""
    explained_left: float | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and what was found for each action."""

    model: Model
    report: tuple[ActionReport, ...]


class NotWorthIt(InvalidChoice):
    """No action gets a model."""

    exit_status = 1

    def __init__(self, report: Sequence[ActionReport]) -> None:
        self.report = tuple(report)
        reasons = "; ".join(f"{each.action}: {each.refused}" for each in report)
        remedy = "The rules stay"
        if not all(each.held for each in report):  # those were never compared
            remedy += ". Collect more outcomes, or state expiries where messages are urgent"
        super().__init__(f"no action gets a model: {reasons}. {remedy}")


def train(
    outcomes: Sequence[Outcome],
    *,
    explore: float = EXPLORE,
    tenants: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Trained:
    """Learn from outcomes. `progress` is told each action and step. Raises NotWorthIt, or InvalidChoice without any."""
    if not outcomes:
        raise InvalidChoice("there are no outcomes to learn from. Note them for some days; see docs/routing.md")
    found = by_action(outcomes)
    trees, shapes = sizes(len(found))
    learned: dict[str, Learned] = {}
    report: list[ActionReport] = []
    for action, messages in found.items():
        one, said = _Action(action, messages, explore, trees, shapes, progress).train()
        report.append(said)
        if one is not None:
            learned[action] = one
    if not learned:
        raise NotWorthIt(report)
    times = [each.at for each in outcomes]
    model = Model(
        made_at=datetime.now(UTC).replace(microsecond=0),
        from_at=datetime.fromtimestamp(min(times), UTC),
        until_at=datetime.fromtimestamp(max(times), UTC),
        messages=len(outcomes),
        explore=explore,
        actions=learned,
        refused={each.action: each.refused for each in report if each.refused is not None},
        tenants=tuple(tenants),
    )
    return Trained(model, tuple(report))


def sizes(actions: int) -> tuple[int, int]:
    """Return how many trees a forest of each action may have, and how many shapes, so that the file stays small."""
    trees = int(_BUDGET * 0.7 / (actions * _FORESTS * _BYTES_OF_TREE))
    shapes = int(_BUDGET * 0.3 / (actions * _BYTES_OF_SHAPE))
    return max(min(TREES, trees), 4), max(min(MAX_SHAPES, shapes), 4)


class _Action:
    """The training of one action."""

    def __init__(
        self,
        action: str,
        outcomes: Sequence[Outcome],
        explore: float,
        trees: int,
        shapes: int,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._action, self._outcomes, self._explore = action, outcomes, explore
        self._trees, self._shapes, self._progress = trees, shapes, progress

    def _tell(self, step: str) -> None:
        if self._progress is not None:
            self._progress(f"{self._action}: {step}")

    def train(self) -> tuple[Learned | None, ActionReport]:
        """Return the model, or None, and the report."""
        stated = sum(each.expires_ms is not None or each.outcome == "expired" for each in self._outcomes)
        base = ActionReport(self._action, len(self._outcomes), stated, 0)
        if len(self._outcomes) < FEWEST:
            return None, _but(base, refused=f"{len(self._outcomes):,} messages, at least {FEWEST:,} are needed")
        if stated < FEWEST_STATED:
            few = f"{stated:,} messages with an expiry, at least {FEWEST_STATED} are needed to know what is urgent"
            return None, _but(base, refused=few)
        whole = lesson_of(self._outcomes)
        base = _but(base, servers=whole.traffic.servers)
        cut = int(len(whole) * LEARNED_PART)
        early, late = whole.part(0, cut), whole.part(cut, len(whole))
        if min(early.left.known.sum(), late.left.known.sum(), late.time.known.sum()) < FEWEST_STATED / 4:
            return None, _but(base, refused="too few expiries or handling times in a part of the time")
        self._tell("learning to predict")
        sample = sample_of(early, *crossed(early.known, early.time, early.left), explore=self._explore)
        predictors = fit(early.known, early.time, early.left, early.saving, trees=self._trees, most_shapes=self._shapes)
        self._tell("searching a policy")
        table = best_table(early, sample.traffic)
        newest = early.part(len(early) - len(sample.traffic), len(early))
        policy = best_policy(sample, table.of(newest.known, newest.rules))
        self._tell("comparing on what was held out")
        return self._judged(base, late, predictors, policy, table)

    def _judged(
        self, base: ActionReport, late: Lesson, predictors: Predictors, policy: Policy, table: Table
    ) -> tuple[Learned | None, ActionReport]:
        time, left = late.predicted(predictors)
        base = _but(base, explained_time=_explained(late.time, time), explained_left=_explained(late.left, left))
        truth = truth_of(late)
        sample = Sample(truth, late.left_of(left), time, late.rules, late.explored(self._explore))
        held = tuple(_held(truth.at(load), load, sample, policy, table, late) for load in LOADS)
        base = _but(base, held=held)
        if max(base.explained_time or 0.0, base.explained_left or 0.0) < _LEAST_EXPLAINED:
            return None, _but(base, refused="neither handling times nor expiries can be told from what is known")
        gain = _gain(truth, sample, policy, table, late)
        if gain >= 0:
            why = f"a tuned table does as well: the model misses or nearly misses {100 * gain:.1f} % more"
            return None, _but(base, refused=why)
        if slowest := next((each for each in held if each.ageing > LONGEST), None):
            why = f"at load {slowest.load} a message waits {slowest.ageing:.1f} times as long as any by the rules"
            why += ", and as half of the longest by the tuned table"
            return None, _but(base, refused=f"{why}, at most {LONGEST} are allowed")
        errors = Errors(_error(late.time, time), _error(late.left, left))
        learned = Learned(
            messages=len(self._outcomes),
            shapes=predictors.shapes,
            unknown=predictors.unknown,
            time=predictors.time,
            left=predictors.left,
            policy=policy,
            errors=errors,
            usual=usual([each.known for each in self._outcomes]),
            saving=predictors.saving,
            held_out=_figures(base),
        )
        return learned, base


def sample_of(lesson: Lesson, time: Numbers, left: Numbers, *, explore: float) -> Sample:
    """Return the newest messages with predictions that have not seen them, completed by what may have been true."""
    begin = max(len(lesson) - _SEARCHED, 0)
    newest = lesson.part(begin, len(lesson))
    time, left = time[begin:], left[begin:]
    return Sample(newest.completed(time, left), newest.left_of(left), time, newest.rules, newest.explored(explore))


def truth_of(lesson: Lesson) -> Traffic:
    """Return the traffic with what nobody saw filled in from the lesson's own labels, not from a model in question."""
    return lesson.completed(*crossed(lesson.known, lesson.time, lesson.left))


def best_table(lesson: Lesson, traffic: Traffic) -> Table:
    """Return the table with the fewest missed deadlines. `traffic` is the lesson's newest messages."""
    newest = lesson.part(len(lesson) - len(traffic), len(lesson))

    return min(candidates(lesson), key=lambda table: _total(traffic, table.of(newest.known, newest.rules)))


def _total(traffic: Traffic, chosen: Priorities) -> float:
    """Return the missed or nearly missed messages at all loads together."""
    return sum(softly_missed(replayed, simulate(replayed, chosen)) for replayed in map(traffic.at, LOADS))


def _gain(truth: Traffic, sample: Sample, policy: Policy, table: Table, late: Lesson) -> float:
    """Return how much more the model misses than the table: below 0, it is better.

    Without the share that is left to the rules: that is the price of safety, with a table as with a model.
    """
    sample = replace(sample, explored=np.zeros(len(late), dtype=np.bool_))
    model, tabled = priorities(policy, sample), table.of(late.known, late.rules)
    return _total(truth, model) / max(_total(truth, tabled), 1.0) - 1


def _held(traffic: Traffic, load: float, sample: Sample, policy: Policy, table: Table, late: Lesson) -> Held:
    rules, model = simulate(traffic, late.rules), simulate(traffic, priorities(policy, sample))
    tabled = simulate(traffic, table.of(late.known, late.rules))
    return Held(
        load,
        *(each.share_missed for each in (rules, tabled, model)),
        *(each.longest for each in (rules, tabled, model)),
    )


def _explained(labels: Labels, predicted: Numbers) -> float:
    values, guesses = labels.values[labels.known], predicted[labels.known]
    return float(1 - ((values - guesses) ** 2).mean() / max(values.var(), 1e-9))


def _error(labels: Labels, predicted: Numbers) -> float:
    return float(f"{max(np.abs(labels.values - predicted)[labels.known].mean(), 0.05):.6g}")


def _figures(report: ActionReport) -> dict[str, float]:
    """Return the held-out figures by name, such as `missed_rules_0.95`."""
    found = {"explained_time": report.explained_time or 0.0, "explained_left": report.explained_left or 0.0}
    for held in report.held:
        for name in ("rules", "table", "model"):
            found[f"missed_{name}_{held.load}"] = getattr(held, name)
            found[f"longest_{name}_ms_{held.load}"] = getattr(held, f"longest_{name}_ms")
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def _but(report: ActionReport, **changes: object) -> ActionReport:
    return replace(report, **changes)  # type: ignore[arg-type]  # the names are this module's own
