"""What is known of a message, and what the rules make of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import pytest

from kryonix.routing.known import EXPLORES, FOLLOWS, NOTES, draw, rules_priority
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


IDS: dict[str, Callable[[int], str]] = {
    "counted": lambda number: f"message {number}",
    "padded": lambda number: f"order-{number:010}",
    "in front": lambda number: f"{number}-lead-created",
    "hexadecimal": lambda number: f"{number:032x}",
    "random": lambda number: f"{Random(number).getrandbits(128):032x}",
}


@pytest.mark.parametrize("name", IDS.values(), ids=IDS)
def test_the_draws_of_messages_are_even_and_independent(name: Callable[[int], str]) -> None:
    found = [[draw(name(number), what) for what in (EXPLORES, FOLLOWS, NOTES)] for number in range(20_000)]
    for one in range(3):
        for share in (0.01, 0.1, 0.5):
            few = sum(each[one] < share for each in found) / len(found)
            assert few == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(found)))
        other = (one + 1) % 3
        both = sum(each[one] < 0.3 and each[other] < 0.3 for each in found) / len(found)
        assert both == pytest.approx(0.09, abs=0.01)
    assert all(0 <= number < 1 for each in found for number in each)


def test_the_draws_of_any_text_are_always_the_same() -> None:
    assert draw("caf\udce9", NOTES) == draw("caf\udce9", NOTES) != draw("caf", NOTES)
