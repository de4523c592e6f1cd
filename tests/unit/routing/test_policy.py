"""From a time left and a handling time to a priority."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kryonix.routing.policy import Index, Last, Policy
from tests.support.routing_models import LEVELS_MS

LEVELS = tuple(math.log(each) for each in LEVELS_MS)
BY_LEFT = Policy(Index(1.0, 0.0), LEVELS)


@pytest.mark.parametrize(("left_ms", "priority"), [*zip(LEVELS_MS, range(10, 2, -1), strict=True), (1e9, 2), (1, 10)])
def test_less_time_left_is_a_higher_priority(left_ms: float, priority: int) -> None:
    assert BY_LEFT.priority(math.log(left_ms), 0.0) == priority


def test_just_above_a_level_is_the_next_lower_priority() -> None:
    assert [BY_LEFT.priority(math.log(level + 1), 0.0) for level in LEVELS_MS] == [9, 8, 7, 6, 5, 4, 3, 2]


def test_the_handling_time_counts_by_its_weight() -> None:
    policy = Policy(Index(1.0, 0.5), LEVELS)
    assert policy.priority(math.log(1_000), 0.0) == 9
    assert policy.priority(math.log(1_000), math.log(100)) == 7  # as if 10 s were left


def test_what_may_wait_for_everything_else_goes_last() -> None:
    policy = Policy(Index(1.0, 0.0), LEVELS, Last(Index(0.0, 1.0), math.log(60_000)))
    assert policy.priority(math.log(500), math.log(60_000)) == 9
    assert policy.priority(math.log(500), math.log(60_001)) == 1


@pytest.mark.parametrize(
    "levels", [(), LEVELS[1:], (*LEVELS, 20.0), LEVELS[::-1]], ids=["none", "seven", "nine", "descending"]
)
def test_levels_that_are_not_seven_ascending_numbers_are_refused(levels: Any) -> None:
    with pytest.raises(ValueError, match="levels are not 8 ascending numbers"):
        Policy(Index(1.0, 0.0), levels)
