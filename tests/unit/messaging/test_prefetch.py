from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.messaging.consuming.consumer import MAX_HANDLER_S, plan_prefetch
from kryonix.messaging.transport import ANSWER_WITHIN_S

LONGEST = 5 * ANSWER_WITHIN_S


@pytest.mark.parametrize(
    ("prefetch", "concurrency", "queues", "handler_timeout", "expected"),
    [
        (100, 10, 1, 60, (100, ANSWER_WITHIN_S)),
        (100, 1, 1, 60, (100, ANSWER_WITHIN_S)),
        (100, 1, 1, 3_600, (100, 100 * 3_630)),
        (100, 1, 1, 7_200, (59, 59 * 7_230)),
        (100, 10, 4, ANSWER_WITHIN_S, (10, 4 * (ANSWER_WITHIN_S + 30))),
        (100, 1, 1, None, (100, ANSWER_WITHIN_S)),
    ],
)
def test_prefetch_fits_the_consumer_timeout(
    prefetch: int, concurrency: int, queues: int, handler_timeout: float | None, expected: tuple[int, float]
) -> None:
    assert plan_prefetch(prefetch, concurrency, queues, handler_timeout) == expected


@given(
    prefetch=st.integers(1, 65_535),
    concurrency=st.integers(1, 65_535),
    queues=st.integers(1, 4),
    handler_timeout=st.floats(0.001, MAX_HANDLER_S),
)
def test_the_last_message_is_always_answered_in_time(
    prefetch: int, concurrency: int, queues: int, handler_timeout: float
) -> None:
    ahead, within = plan_prefetch(max(prefetch, concurrency), concurrency, queues, handler_timeout)
    assert math.ceil(ahead * queues / concurrency) * handler_timeout < within <= LONGEST
    assert ahead >= concurrency
