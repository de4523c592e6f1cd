"""What ends a model's use, and what does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kryonix.routing.guard import DRIFT, SURE, WINDOW, Guard, Spread, Trial, Usual
from kryonix.routing.known import Known
from kryonix.routing.learned import Errors
from tests.support.routing_models import known, spread

SHAPES = tuple(f"{number:016x}" for number in range(12))
EDGES = tuple(math.exp(step) for step in range(5, 12))


def messages(count: int, seed: int, **changed: Any) -> list[Known]:
    """Return messages of twelve shapes, of lognormal sizes, a quarter of them with an expiry."""
    random = Random(seed)
    return [
        known(
            message_id=str(number),
            shape=random.choices(SHAPES, range(1, 13))[0],
            bytes=round(math.exp(random.gauss(8, 1.5))),
            device=random.choices(("web", "mobile", "unknown"), (6, 3, 1))[0],
            priority=random.choice((None, None, None, 3, 8)),
            expires_ms=math.exp(random.gauss(9, 2)) if random.random() < 0.25 else None,
            **changed,
        )
        for number in range(count)
    ]


def usual() -> Usual:
    seen = messages(10_000, 1)
    return Usual(
        {
            "shape": spread(seen, "shape"),
            "device": spread(seen, "device"),
            "bytes": spread(seen, "bytes", EDGES),
            "expires_ms": spread(seen, "expires_ms", EDGES),
            "priority": spread(seen, "priority", (2, 5, 7)),
        }
    )


def watched() -> Guard:
    return Guard(usual(), Errors(time=0.5, left=0.8))


def decided_until(guard: Guard, sent: Sequence[Known]) -> int:
    """Return after how many messages the guard had a problem. Fail if it never had one."""
    for number, message in enumerate(sent, 1):
        guard.decided([message])
        if guard.problem is not None:
            return number
    raise AssertionError("no problem was found")


def test_the_same_distribution_is_never_a_drift() -> None:
    guard = watched()
    for message in messages(50 * WINDOW, 2):
        guard.decided([message])
    assert guard.problem is None
    assert set(guard.drifts) == {"shape", "device", "bytes", "expires_ms", "priority"}
    assert max(guard.drifts.values()) < DRIFT


def test_the_same_object_counts_as_often_as_it_was_sent() -> None:
    one, other = watched(), watched()
    few = messages(10, 2)
    for start in range(0, 3 * WINDOW, 25):
        sent = [few[(start + number) % 7] for number in range(25)]
        one.decided(sent)
        other.decided([replace(each) for each in sent])
    assert one.drifts == other.drifts
    assert one.problem == other.problem is not None


def _renamed(sent: Known) -> Known:
    return replace(sent, shape="f" * 16 if int(sent.message_id) % 2 else sent.shape)


DRIFTS: dict[str, tuple[Any, str]] = {
    "half the shapes are new": (_renamed, "shape"),
    "sizes ten times as large": (lambda sent: replace(sent, bytes=10 * sent.bytes), "bytes"),
    "all are mobile": (lambda sent: replace(sent, device="mobile"), "device"),
    "all state an expiry": (lambda sent: replace(sent, expires_ms=5_000.0), "expires_ms"),
    "nobody states an expiry": (lambda sent: replace(sent, expires_ms=None), "expires_ms"),
    "all give a priority": (lambda sent: replace(sent, priority=9), "priority"),
}


@pytest.mark.parametrize(("change", "feature"), DRIFTS.values(), ids=DRIFTS)
def test_a_drift_of_one_feature_is_found_within_five_thousand(change: Any, feature: str) -> None:
    guard = watched()
    for message in messages(3_100, 3):
        guard.decided([message])
    assert guard.problem is None
    assert decided_until(guard, [change(message) for message in messages(5_000, 4)]) <= 5_000
    assert guard.problem is not None
    assert guard.problem.startswith(f"{feature} is spread differently: stability index ")


def test_a_problem_stays_the_first_one() -> None:
    guard = watched()
    decided_until(guard, messages(5_000, 4, at=0.0)[:0] + [replace(m, device="mobile") for m in messages(5_000, 4)])
    first = guard.problem
    for _ in range(1_000):
        guard.became(50.0, True, by_rules=False)
    for message in messages(5_000, 5):
        guard.decided([message])
    assert guard.problem == first


def _errors(random: Random, mean: float, count: int) -> Iterator[float]:
    """Yield errors of both signs whose mean distance from 0 is this."""
    for _ in range(count):
        yield random.gauss(0, mean * math.sqrt(math.pi / 2))


def test_doubled_errors_of_handling_times_end_the_use() -> None:
    guard = watched()
    for error in _errors(Random(1), 0.55, 3_000):
        guard.became(error, None, by_rules=False)
    assert guard.problem is None
    for error in _errors(Random(2), 1.2, 2_000):
        guard.became(error, None, by_rules=False)
    assert guard.problem is not None
    assert guard.problem.startswith("the error of predicted handling times has doubled: ")


def test_doubled_errors_of_stated_times_left_end_the_use() -> None:
    guard = watched()
    for error in _errors(Random(3), 2.0, 600):
        guard.stated(error)
    assert guard.problem is not None
    assert guard.problem.startswith("the error of predicted times left has doubled: ")


def test_a_few_large_errors_do_not_end_the_use() -> None:
    guard = watched()
    for error in _errors(Random(4), 5.0, 150):
        guard.became(error, None, by_rules=False)
    assert guard.problem is None


def test_a_long_time_without_errors_does_not_hide_that_they_double() -> None:
    guard = watched()
    for error in _errors(Random(6), 0.5, 20_000):
        guard.became(error, None, by_rules=False)
    assert guard.problem is None
    for error in _errors(Random(7), 2.0, 150):
        guard.became(error, None, by_rules=False)
    assert guard.problem is not None


def test_errors_of_a_nearly_perfect_prediction_may_double() -> None:
    guard = Guard(Usual({}), Errors(time=0.001, left=0.0))
    for error in _errors(Random(5), 0.02, 2_000):
        guard.stated(error)
        guard.became(error, None, by_rules=False)
    assert guard.problem is None, "2 % off is as good as right"


def trial(misses_of_model: float, misses_of_rules: float, count: int, seed: int, rules: float = 0.05) -> int | None:
    """Return after how many messages the trial was sure that the model is worse, None if never."""
    random, made = Random(seed), Trial()
    for number in range(1, count + 1):
        by_rules = random.random() < rules
        made.add(random.random() < (misses_of_rules if by_rules else misses_of_model), by_rules=by_rules)
        if made.odds > SURE:
            return number
    return None


def test_a_model_that_misses_as_many_is_hardly_ever_called_worse() -> None:
    found = [
        trial(share, share, 3_000, seed, rules)
        for share, rules in ((0.02, 0.05), (0.1, 0.05), (0.1, 0.5), (0.4, 0.05))
        for seed in range(50)
    ]
    assert sum(each is not None for each in found) <= 0.01 * len(found)


def test_a_model_that_misses_fewer_is_never_called_worse() -> None:
    assert not any(trial(0.05, 0.15, 3_000, seed) for seed in range(20))


@pytest.mark.parametrize(("model", "rules"), [(0.3, 0.05), (0.5, 0.2)])
def test_a_model_that_misses_far_more_is_found_out(model: float, rules: float) -> None:
    found = [trial(model, rules, 5_000, seed) for seed in range(20)]
    assert all(each is not None for each in found)


def test_more_missed_deadlines_than_the_rules_share_end_the_use() -> None:
    random, guard = Random(9), watched()
    for number in range(5_000):
        by_rules = number % 20 == 0
        guard.became(None, random.random() < (0.05 if by_rules else 0.4), by_rules=by_rules)
    assert guard.problem is not None
    assert guard.problem.startswith("the model's share misses more deadlines than the rules': ")


def test_a_trial_without_either_share_says_nothing() -> None:
    made = Trial()
    for _ in range(1_000):
        made.add(missed=True, by_rules=False)
    assert made.odds == 1.0
    assert str(made) == "1,000 of 1,000 against 0 of 0"


def test_bins_of_numbers_have_one_for_none_given() -> None:
    made = Spread((10.0, 20.0), (), (0.1, 0.2, 0.3, 0.4), 0.0)
    assert [made.bin(value) for value in (None, 0, 10, 10.5, 20, 21)] == [0, 1, 1, 2, 2, 3]


def test_bins_of_names_have_one_for_all_others() -> None:
    made = Spread((), ("web", "mobile"), (0.5, 0.3, 0.2), 0.0)
    assert [made.bin(value) for value in ("web", "mobile", "toaster", "")] == [0, 1, 2, 2]


@pytest.mark.parametrize("shares", [(), (1.0,), (0.2,) * 5])
def test_shares_that_do_not_fit_the_bins_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares for 4 bins"):
        Spread((10.0, 20.0), (), shares, 0.0)


def test_a_feature_that_is_not_watched_is_refused() -> None:
    with pytest.raises(ValueError, match="hour: no feature that is watched"):
        Usual({"hour": Spread((), (), (0.0, 1.0), 0.0)})
