"""What a model knows of one action, and the decision for one message."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kryonix.routing.forest import Explainer, Forest
from kryonix.routing.guard import Usual
from kryonix.routing.known import DEVICES, FEATURES, Known, draws, rules_priority
from kryonix.routing.numbers import Error, Number
from kryonix.routing.policy import Policy

_REMEMBERED: Final = 4_096
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
    """What each of _NAMES adds to the policy's index, against the average message."""
    time_parts: tuple[float, ...] = field(repr=False)
    """The same without the time left, for a message whose sender states it."""

    @property
    def compresses(self) -> bool:
        """False if compression is expected to save less than a tenth."""
        return self.saving is None or self.saving <= _LEAST_SAVING


@dataclass(slots=True)  # frozen, it takes twice as long to make, at each send
class Choice:
    """A model's answer for one message. Don't change one."""

    priority: int
    rules: int
    """The priority that the rules choose."""
    explored: bool
    """True if the message stays where the rules put it: to compare, and so that everything moves on."""
    propensity: float
    """The share of messages like this that get such an answer."""
    prediction: Prediction
    reason: str


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


def _by_name(contributions: list[float]) -> list[float]:
    """Return the contributions with both numbers of the shape as one."""
    return [contributions[0] + contributions[1], *contributions[2:]]


class Decider:
    """Decide the messages of one action. Those that no tree can tell apart are predicted once."""

    def __init__(self, learned: Learned, explore: float) -> None:
        self.learned, self._explore = learned, explore
        self._time, self._left = (Explainer(each, len(FEATURES)) for each in (learned.time, learned.left))
        forests = [each for each in (learned.time, learned.left, learned.saving) if each is not None]
        self._sizes, self._hours, self._weekdays = (
            sorted(set().union(*(forest.thresholds(FEATURES.index(name)) for forest in forests)))
            for name in ("bytes", "hour", "weekday")
        )
        self._usual_left = learned.left.mean
        self._seen: dict[tuple[Any, ...], Prediction] = {}
        self._texts: dict[tuple[int, int], str] = {}
        self._answers: dict[int, tuple[int, str]] = {}

    def predict(self, known: Known) -> Prediction:
        key = (
            known.shape if known.shape in self.learned.shapes else None,
            known.device,
            bisect_left(self._sizes, known.bytes),
            bisect_left(self._hours, known.hour) if self._hours else 0,
            bisect_left(self._weekdays, known.weekday) if self._weekdays else 0,
            known.priority,
        )
        if (seen := self._seen.get(key)) is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
                self._texts.clear()
                self._answers.clear()
            seen = self._seen[key] = self._predict(known)
        return seen

    def _predict(self, known: Known) -> Prediction:
        learned = self.learned
        row, index = learned.row(known), learned.policy.index
        time, time_parts = self._time.explain(row)
        left, left_parts = self._left.explain(row)
        by_time = tuple([index.time * each for each in _by_name(time_parts)])
        return Prediction(
            left=left,
            time=time,
            saving=None if learned.saving is None else learned.saving.score(row),
            parts=tuple([index.left * one + other for one, other in zip(_by_name(left_parts), by_time, strict=True)]),
            time_parts=by_time,
        )

    def choose(self, known: Known) -> Choice:
        """Return the priority. It is never lower than the rules' if that is 8 or more, or if an expiry is stated."""
        prediction, expires = self.predict(known), known.expires_ms
        rules = rules_priority(known.priority, expires)
        if draws(known.message_id)[0] < self._explore:
            return Choice(rules, rules, True, self._explore, prediction, "left to the rules, for comparison")
        if expires is None and rules < 8:
            priority, reason = self._usual(prediction)
            return Choice(priority, rules, False, 1 - self._explore, prediction, reason)
        policy = self.learned.policy
        left = prediction.left if expires is None else math.log(max(expires, 1))
        priority = policy.priority(left, prediction.time)
        if priority < rules and (rules >= 8 or expires is not None):
            priority = rules
        stated = 0.0 if expires is None else policy.index.left * (left - self._usual_left)
        reason = f"learned: priority {priority}, {self._why(prediction, stated, expires is not None)}"
        return Choice(priority, rules, False, 1 - self._explore, prediction, reason)

    def _usual(self, prediction: Prediction) -> tuple[int, str]:
        """Return priority and reason of messages about which only the model knows something: made once."""
        if (found := self._answers.get(id(prediction))) is None:
            priority = self.learned.policy.priority(prediction.left, prediction.time)
            found = priority, f"learned: priority {priority}, {self._why(prediction, 0.0, False)}"
            self._answers[id(prediction)] = found
        return found

    def _why(self, prediction: Prediction, stated: float, is_stated: bool) -> str:
        """Return the three largest contributions in words. Those of similar expiries get the same words."""
        key = (id(prediction), round(stated * 4) if is_stated else _UNSTATED)
        if (text := self._texts.get(key)) is None:
            parts = prediction.time_parts if is_stated else prediction.parts
            named = sorted(zip((*parts, stated), (*_NAMES, _STATED), strict=True), key=lambda each: -abs(each[0]))
            words = [
                f"{'earlier' if part < 0 else 'later'} for {name}" for part, name in named[:3] if abs(part) > _TRIFLE
            ]
            text = self._texts[key] = ", ".join(words) or "like the average message"
        return text


_UNSTATED: Final = -1_000_000
