"""Rate limits per caller."""

from __future__ import annotations

import pytest

from kryonix.signup.auth import RateLimit
from kryonix.signup.errors import TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_as_many_as_the_rate_allows() -> None:
    clock = Clock()
    limit = RateLimit(2, 3, clock)
    for _ in range(3):
        limit.count("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.count("a")
    assert caught.value.seconds == pytest.approx(0.5)
    clock.now = 0.5
    limit.count("a")
    with pytest.raises(TooManyRequests):
        limit.count("a")


def test_callers_have_separate_limits() -> None:
    limit = RateLimit(1, 1, Clock())
    limit.count("a")
    limit.count("b")
    with pytest.raises(TooManyRequests):
        limit.count("b")


def test_a_pause_gives_no_more_than_a_burst() -> None:
    clock = Clock()
    limit = RateLimit(1, 2, clock)
    clock.now = 1000.0
    limit.count("a")
    limit.count("a")
    with pytest.raises(TooManyRequests):
        limit.count("a")


def test_idle_callers_use_no_memory() -> None:
    limit = RateLimit(1, 1, Clock())
    for number in range(20_000):
        limit.count(str(number))
    assert len(limit._buckets) <= 10_000
