"""The decision for one message."""

from __future__ import annotations

import math
from random import Random

import pytest

from kryonix.routing.forest import Forest
from kryonix.routing.known import Known, rules_priority
from kryonix.routing.learned import Decider, Learned
from kryonix.routing.policy import Index, Policy
from tests.support.routing_models import LEVELS_MS, URGENT, known, learned, spread, stump

LEVELS = tuple(math.log(each) for each in LEVELS_MS)


def priority(message: Known, made: Learned | None = None) -> int:
    return Decider(made or learned(), 0.0).choose(message).priority


def test_a_shape_that_was_urgent_in_training_goes_first() -> None:
    assert priority(known(shape=URGENT)) == 9
    assert priority(known()) == 3


def test_a_shape_that_training_never_saw_counts_as_the_average() -> None:
    assert priority(known(shape="f" * 16)) == priority(known())


@pytest.mark.parametrize("given", [8, 9, 10])
def test_a_given_priority_of_eight_or_more_is_never_lowered(given: int) -> None:
    assert priority(known(priority=given)) == given
    assert priority(known(priority=given, shape=URGENT)) == max(given, 9)


@pytest.mark.parametrize("given", [None, 0, 4, 5, 7])
def test_a_stated_expiry_is_never_lowered(given: int | None) -> None:
    for expires_ms in (1.0, 400.0, 29_000.0, 30_000.0, 31_000.0, 3_600_000.0, 1e12):
        chosen = priority(known(priority=given, expires_ms=expires_ms))
        assert chosen >= rules_priority(given, expires_ms)


def test_a_given_priority_below_eight_may_be_lowered_without_expiry() -> None:
    assert priority(known(priority=7)) == 3


def test_a_stated_expiry_counts_more_than_the_predicted_time_left() -> None:
    assert priority(known(expires_ms=900.0)) == 9
    assert priority(known(expires_ms=100_000.0, shape=URGENT)) == 5


def test_an_expiry_of_nothing_is_the_most_urgent() -> None:
    assert priority(known(expires_ms=0.0)) == 10


def test_no_decision_is_outside_the_learned_range_or_the_floor() -> None:
    random = Random(3)
    decider = Decider(learned(), 0.0)
    for number in range(2_000):
        message = known(
            message_id=str(number),
            shape=random.choice((URGENT, "b" * 16, "")),
            priority=random.choice((None, *range(11))),
            expires_ms=random.choice((None, 10 ** random.uniform(0, 9))),
        )
        rules = rules_priority(message.priority, message.expires_ms)
        chosen = decider.choose(message)
        assert chosen.rules == rules
        assert 1 <= chosen.priority <= 10 or chosen.priority == rules
        if rules >= 8 or message.expires_ms is not None:
            assert chosen.priority >= rules


def test_the_explored_share_follows_the_hash_of_the_message_id() -> None:
    decider = Decider(learned(), 0.05)
    chosen = [decider.choose(known(message_id=f"m{number}", shape=URGENT)) for number in range(20_000)]
    explored = [each for each in chosen if each.who == "explored"]
    assert len(explored) / len(chosen) == pytest.approx(0.05, abs=0.006)
    assert {(each.priority, each.propensity) for each in explored} == {(5, 0.05)}
    assert {(each.priority, each.propensity) for each in chosen if each.who == "learned"} == {(9, 0.95)}
    again = [Decider(learned(), 0.05).choose(known(message_id=f"m{number}", shape=URGENT)) for number in range(500)]
    assert [each.who for each in again] == [each.who for each in chosen[:500]]


def test_a_larger_explored_share_contains_the_smaller_one() -> None:
    few, many = Decider(learned(), 0.05), Decider(learned(), 0.2)
    for number in range(2_000):
        message = known(message_id=f"m{number}")
        assert many.choose(message).who == "explored" or few.choose(message).who == "learned"


def test_nothing_is_explored_with_a_share_of_nothing() -> None:
    decider = Decider(learned(), 0.0)
    assert all(decider.choose(known(message_id=f"m{number}")).who == "learned" for number in range(2_000))


def test_a_reason_names_the_contributions_and_their_direction() -> None:
    made = learned()
    assert Decider(made, 0.0).choose(known(shape=URGENT)).reason == (
        "learned: priority 9, earlier for its kind of payload"
    )
    assert Decider(made, 0.0).choose(known()).reason == "learned: priority 3, later for its kind of payload"


def test_a_reason_names_the_three_largest_contributions_in_order() -> None:
    trees = (
        stump("bytes", 1_000, -1, 1),
        stump("device", 1.5, -8, 8),
        stump("hour", 6, -2, 2),
        stump("weekday", 0, -4, 4),
    )
    made = learned(left=Forest(trees))
    reason = Decider(made, 0.0).choose(known()).reason
    assert reason.partition(", ")[2] == "earlier for its device, earlier for the weekday, later for the hour"


def test_a_reason_names_a_stated_expiry() -> None:
    assert "earlier for the expiry stated" in Decider(learned(), 0.0).choose(known(expires_ms=1_000.0)).reason
    assert "later for the expiry stated" in Decider(learned(), 0.0).choose(known(expires_ms=1e9)).reason


def test_a_reason_of_an_average_message_says_so() -> None:
    made = learned(left=Forest((stump("bytes", 0, 0, 0),)))
    assert Decider(made, 0.0).choose(known()).reason.endswith("like the average message")


def test_a_reason_of_an_explored_message_says_that_it_is_left_alone() -> None:
    assert Decider(learned(), 0.999999).choose(known()).reason == "left to the rules, for comparison"


def test_a_remembered_prediction_is_that_of_a_new_decider() -> None:
    random = Random(5)
    trees = [
        stump(name, threshold, random.uniform(-2, 2), random.uniform(-2, 2))
        for name, threshold in (
            ("bytes", 1_000),
            ("bytes", 50_000.5),
            ("device", 0.5),
            ("device", 1.5),
            ("hour", 7),
            ("weekday", 2),
            ("priority", 4.5),
            ("shape: left", 8.0),
        )
    ]
    made = learned(
        left=Forest(tuple(trees)), policy=Policy(Index(1.0, 0.0), (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 3.0))
    )
    decider = Decider(made, 0.0)
    for number in range(2_000):
        message = known(
            message_id=str(number),
            at=1_767_600_000 + random.uniform(0, 20 * 86_400),
            bytes=random.choice((0, 999, 1_000, 1_001, 50_000, 50_001, 10**9)),
            device=random.choice(("web", "mobile", "unknown", "toaster")),
            shape=random.choice((URGENT, "x")),
            priority=random.choice((None, *range(11))),
        )
        fresh = Decider(made, 0.0).predict(message)
        assert decider.predict(message) == fresh
        assert fresh.left == pytest.approx(made.left.score(made.row(message)))


def test_a_message_stands_only_for_those_that_the_guard_counts_alike() -> None:
    random = Random(5)
    sent = [
        known(
            message_id=str(number),
            at=1_767_600_000 + random.uniform(0, 3 * 86_400),
            bytes=int(random.lognormvariate(7, 2)),
            device=random.choice(("web", "mobile", "unknown")),
            shape=random.choice((URGENT, "seen, not learned", f"new {number}")),
            priority=random.choice((None, 3, 9)),
            expires_ms=random.choice((None, None, 10 ** random.uniform(2, 6))),
        )
        for number in range(4_000)
    ]
    spreads = {
        "shape": spread([known(shape=URGENT), known(shape="seen, not learned")], "shape"),
        "device": spread([known(device="web"), known(device="mobile")], "device"),
        "bytes": spread(sent, "bytes", edges=(500, 1_000, 2_000)),
        "priority": spread(sent, "priority", edges=(3, 8)),
        "expires_ms": spread(sent, "expires_ms", edges=(1_000, 30_000)),
    }
    decider = Decider(learned(spreads=spreads, left=Forest((stump("bytes", 700, 1, 2),))), 0.05)
    likes = [decider.choose(each).like for each in sent]
    assert len({id(each) for each in likes}) < len(sent)
    for name, one in spreads.items():
        expected = [one.bin(getattr(each, name)) for each in sent]
        assert [one.bin(getattr(each, name)) for each in likes] == expected, name


def test_predictions_that_are_remembered_stay_bounded() -> None:
    decider = Decider(learned(), 0.0)
    for number in range(10_000):
        decider.choose(known(shape=f"{number:016x}", message_id=str(number), expires_ms=float(number)))
    assert len(decider._cases) <= 4_096
    assert all(len(each.texts or ()) <= 200 for each in decider._cases.values())


@pytest.mark.parametrize(("ratio", "compresses"), [(0.5, True), (0.89, True), (0.91, False), (1.0, False)])
def test_compression_that_saves_less_than_a_tenth_is_skipped(ratio: float, compresses: bool) -> None:
    made = learned(saving=Forest((stump("bytes", 0, 0, math.log(ratio)),)))
    assert Decider(made, 0.0).choose(known()).prediction.compresses is compresses


def test_without_a_model_of_compression_it_is_tried() -> None:
    assert Decider(learned(), 0.0).choose(known()).prediction.compresses
