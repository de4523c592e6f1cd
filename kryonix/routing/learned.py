"""What a model knows of one action, and the decision for one message."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kryonix.routing.forest import Explainer, Forest
from kryonix.routing.guard import Usual
from kryonix.routing.known import DEVICES, EXPLORES, FEATURES, FOLLOWS, Known, draw, rules_priority
from kryonix.routing.modes import Decided
from kryonix.routing.numbers import Error, Number
from kryonix.routing.policy import Policy

_REMEMBERED: Final = 4_096
_TEXTS: Final = 200
_NAMES: Final = ("its kind of payload", "its size", "its device", "the hour", "the weekday", "the priority given")
_STATED: Final = "the expiry stated"
_TRIFLE: Final = 0.001
"""Of the index: a smaller contribution is not named."""
_LEAST_SAVING: Final = math.log(0.9)
"""Compression has to save a tenth."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model expects of a message: natural logarithms of ms, and of compressed to full size."""

    left: float
    time: float
    saving: float | None
    parts: tuple[float, ...] = field(repr=False)
    """What each of _NAMES adds to the policy's index, against the average message: first by the time left."""

    @property
    def compresses(self) -> bool:
        """False if compression is expected to save less than a tenth."""
        return self.saving is None or self.saving <= _LEAST_SAVING


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A model's answer for one message, or for all like it if they state no expiry."""

    priority: int
    rules: int
    """The priority that the rules choose."""
    who: Decided
    """Whose priority the message gets: `rules` outside the share that the model decides."""
    propensity: float
    """The share of messages like this of which that is true."""
    prediction: Prediction
    reason: str
    version: str
    """The model's."""
    like: Known
    """The message, or one that the model and its guard can't tell from it."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Mean absolute errors on held-out messages, of the logarithms."""

    time: Error
    left: Error


@dataclass(frozen=True, slots=True)
class Learned:
    """What a model knows of one action."""

    messages: int
    shapes: Mapping[str, tuple[Number, Number]]
    """For each shape its mean logarithms of handling time and time left, in ms."""
    unknown: tuple[Number, Number]
    """The same for any other shape."""
    time: Forest
    left: Forest
    policy: Policy
    errors: Errors
    usual: Usual
    saving: Forest | None = None
    """Predicts the logarithm of compressed to full size."""
    held_out: Mapping[str, Number] = field(default_factory=dict)
    """Figures of the training's last part, which the model had not seen."""

    def __post_init__(self) -> None:
        for forest in (self.time, self.left, self.saving):
            if forest is not None:
                forest.check(len(FEATURES))

    def row(self, known: Known) -> tuple[float, ...]:
        """Return the numbers that the forests read, in the order of FEATURES."""
        return row_of(known, self.shapes, self.unknown)


def row_of(known: Known, shapes: Mapping[str, tuple[float, float]], unknown: tuple[float, float]) -> tuple[float, ...]:
    """Return a message as the numbers of FEATURES, with what is known of each shape and of any other."""
    time, left = shapes.get(known.shape, unknown)
    device = DEVICES.index(known.device) if known.device in DEVICES else 0
    priority = -1 if known.priority is None else known.priority
    return time, left, known.bytes, device, known.hour, known.weekday, priority


def _by_name(weight: float, contributions: list[float]) -> list[float]:
    """Return the weighted contributions, with both numbers of the shape as one."""
    return [weight * (contributions[0] + contributions[1]), *[weight * each for each in contributions[2:]]]


class _Case:
    """Messages that neither a tree nor the guard tells apart: a prediction, and answers to those without an expiry.

    Few objects, and no dictionaries: a model makes thousands, and garbage collection comes as often as there are more.
    """

    __slots__ = ("explored", "learned", "prediction", "rules", "texts")

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.rules: Choice | None = None
        self.learned: Choice | None = None
        self.explored: Choice | None = None
        self.texts: dict[int, str] | None = None
        """Explanations by what a stated expiry adds."""


def _cuts(learned: Learned, name: str) -> list[float]:
    """Return the values of a feature between which neither a tree nor the guard sees a difference."""
    spread = learned.usual.spreads.get(name)
    forests = [each for each in (learned.time, learned.left, learned.saving) if each is not None]
    number = FEATURES.index(name)
    return sorted({*(() if spread is None else spread.edges)}.union(*(each.thresholds(number) for each in forests)))


class Decider:
    """Decide the messages of one action. A share of them, `explore`, is left to the rules."""

    def __init__(self, learned: Learned, explore: float, version: str = "") -> None:
        self.learned, self._explore, self._share, self._version = learned, explore, 1.0, version
        self._time, self._left = (Explainer(each, len(FEATURES)) for each in (learned.time, learned.left))
        self._sizes, self._hours, self._weekdays = (_cuts(learned, name) for name in ("bytes", "hour", "weekday"))
        shapes = learned.usual.spreads.get("shape")
        self._shapes = learned.shapes.keys() | (() if shapes is None else shapes.names)
        self._hours_now, self._parts_now = -1.0, (0, 0)
        self._usual_left = learned.left.mean
        self._cases: dict[tuple[Any, ...], _Case] = {}

    def decide_only(self, share: float) -> None:
        """Leave all but a share of the messages to the rules. At first it is 1."""
        if share != self._share:
            self._share = share
            self._cases.clear()

    def predict(self, known: Known) -> Prediction:
        return self._case(known).prediction

    def _case(self, known: Known) -> _Case:
        if (hours := known.at // 3600) != self._hours_now:
            # The parts of the day and of the week that some tree tells apart.
            self._parts_now = bisect_left(self._hours, known.hour), bisect_left(self._weekdays, known.weekday)
            self._hours_now = hours
        shape = known.shape if known.shape in self._shapes else None
        key = shape, known.device, bisect_left(self._sizes, known.bytes), self._parts_now, known.priority
        if (case := self._cases.get(key)) is None:
            if len(self._cases) >= _REMEMBERED:
                self._cases.clear()
            case = self._cases[key] = _Case(self._predict(known))
        return case

    def _predict(self, known: Known) -> Prediction:
        learned, index = self.learned, self.learned.policy.index
        row = learned.row(known)
        time, by_time = self._time.explain(row)
        left, by_left = self._left.explain(row)
        return Prediction(
            left=left,
            time=time,
            saving=None if learned.saving is None else learned.saving.score(row),
            parts=(*_by_name(index.left, by_left), *_by_name(index.time, by_time)),
        )

    def choose(self, known: Known) -> Choice:
        """Return the priority. It is never lower than the rules' if that is 8 or more, or if an expiry is stated."""
        case = self._case(known)
        who: Decided = "explored" if draw(known.message_id, EXPLORES) < self._explore else "learned"
        if self._share < 1 and draw(known.message_id, FOLLOWS) >= self._share:
            who = "rules"
        if known.expires_ms is not None:
            return self._choice(known, case, who)
        choice: Choice | None = getattr(case, who)
        if choice is None:
            choice = self._choice(known, case, who)
            setattr(case, who, choice)
        return choice

    def _choice(self, known: Known, case: _Case, who: Decided) -> Choice:
        prediction, expires, share = case.prediction, known.expires_ms, self._share
        rules = rules_priority(known.priority, expires)
        if who == "explored":
            reason = "left to the rules, for comparison"
            return Choice(rules, rules, who, share * self._explore, prediction, reason, self._version, known)
        policy = self.learned.policy
        left = prediction.left if expires is None else math.log(max(expires, 1))
        priority = policy.priority(left, prediction.time)
        if priority < rules and (rules >= 8 or expires is not None):
            priority = rules
        stated = None if expires is None else policy.index.left * (left - self._usual_left)
        reason = f"learned: priority {priority}, {_why(case, stated)}"
        propensity = 1 - share if who == "rules" else share * (1 - self._explore)
        return Choice(priority, rules, who, propensity, prediction, reason, self._version, known)


def _why(case: _Case, stated: float | None) -> str:
    """Return the three largest contributions in words. Those of similar expiries get the same words."""
    parts = case.prediction.parts
    by_left, by_time = parts[: len(_NAMES)], parts[len(_NAMES) :]
    if stated is None:
        return _words(zip(map(sum, zip(by_left, by_time, strict=True)), _NAMES, strict=True))
    if case.texts is None or len(case.texts) >= _TEXTS:
        case.texts = {}
    key = round(stated * 4)
    if (text := case.texts.get(key)) is None:
        text = case.texts[key] = _words(zip((*by_time, stated), (*_NAMES, _STATED), strict=True))
    return text


def _words(contributions: Iterable[tuple[float, str]]) -> str:
    named = sorted(contributions, key=lambda each: -abs(each[0]))
    words = [f"{'earlier' if part < 0 else 'later'} for {name}" for part, name in named[:3] if abs(part) > _TRIFLE]
    return ", ".join(words) or "like the average message"
