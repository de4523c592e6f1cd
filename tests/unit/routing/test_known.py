"""What is known of a message, and what the rules make of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kryonix.routing.known import draws, rules_priority
from tests.support.routing_models import known


@pytest.mark.parametrize("text", ["1970-01-01T00:00", "2026-01-05T08:00", "2026-03-01T23:59:59", "2028-02-29T12:30"])
def test_hour_and_weekday_are_those_of_utc(text: str) -> None:
    at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    message = known(at=at.timestamp())
    assert (message.hour, message.weekday) == (at.hour, at.weekday())


@pytest.mark.parametrize(
    ("given", "expires_ms", "priority"),
    [
        (None, None, 5),
        (0, None, 0),
        (7, None, 7),
        (10, None, 10),
        (None, 30_000, 8),
        (None, 30_001, 5),
        (2, 1, 8),
        (9, 1, 9),
    ],
)
def test_the_rules_raise_what_expires_soon(given: int | None, expires_ms: float | None, priority: int) -> None:
    assert rules_priority(given, expires_ms) == priority


def test_the_draws_of_a_message_are_even_and_independent() -> None:
    found = [draws(f"message {number}") for number in range(20_000)]
    for one in range(3):
        assert sum(each[one] for each in found) / len(found) == pytest.approx(0.5, abs=0.01)
        other = (one + 1) % 3
        both = sum(each[one] < 0.3 and each[other] < 0.3 for each in found) / len(found)
        assert both == pytest.approx(0.09, abs=0.01)
    assert all(0 <= number < 1 for each in found for number in each)


def test_the_draws_of_any_text_are_always_the_same() -> None:
    assert draws("caf\udce9") == draws("caf\udce9") != draws("caf")
