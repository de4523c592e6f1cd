"""The replay of a queue: strict priority, no preemption, dropped when too late."""

from __future__ import annotations

import numpy as np
import pytest

from kryonix.training.replay import Traffic, count_servers, simulate


def traffic(*messages: tuple[float, float], deadline: float = 1e9, stated: bool = False, servers: int = 1) -> Traffic:
    """Return messages that arrive at a time and take a time, in ms."""
    arrivals, handlings = (np.array(column, dtype=float) for column in zip(*messages, strict=True))
    number = len(messages)
    return Traffic(arrivals, handlings, np.full(number, deadline), np.full(number, stated), servers)


def waits(given: Traffic, *priorities: int) -> list[float]:
    return [float(each) for each in simulate(given, priorities).waits]


def test_messages_of_one_priority_keep_their_order() -> None:
    assert waits(traffic((0, 10), (1, 10), (2, 10)), 5, 5, 5) == [0, 9, 18]


def test_a_higher_priority_goes_first_but_interrupts_nothing() -> None:
    assert waits(traffic((0, 10), (1, 10), (2, 10)), 0, 0, 10) == [0, 19, 8]


def test_a_message_that_comes_to_an_idle_handler_does_not_wait() -> None:
    assert waits(traffic((0, 10), (50, 10)), 5, 5) == [0, 0]


def test_two_handlers_work_at_once() -> None:
    assert waits(traffic((0, 10), (0, 10), (0, 10), servers=2), 5, 5, 5) == [0, 0, 10]


def test_a_message_past_its_stated_expiry_is_dropped_without_work() -> None:
    found = simulate(traffic((0, 10), (1, 10), (2, 3), deadline=8.5, stated=True), (5, 5, 5))
    assert found.dropped.tolist() == [False, True, False]
    assert found.missed.tolist() == [False, True, False]
    assert found.waits.tolist() == [0, 9, 8]


def test_a_message_past_an_unstated_deadline_is_handled_and_missed() -> None:
    found = simulate(traffic((0, 10), (1, 10), (2, 10), deadline=8.5), (5, 5, 5))
    assert not found.dropped.any()
    assert found.missed.tolist() == [False, True, True]
    assert found.longest == 18


@pytest.mark.parametrize("load", [0.5, 0.8, 1.1, 2.0])
def test_traffic_is_brought_to_a_load_by_its_arrivals_alone(load: float) -> None:
    given = traffic(*((number * 7.0, 10.0) for number in range(100)), servers=3)
    assert given.at(load).load == pytest.approx(load)
    assert given.at(load).handlings.tolist() == given.handlings.tolist()


@pytest.mark.parametrize("servers", [1, 4, 9])
def test_the_number_of_handlers_is_found_in_the_outcomes(servers: int) -> None:
    random = np.random.default_rng(1)
    given = Traffic(
        np.cumsum(random.exponential(10.0, 3_000)),
        random.exponential(10.0 * servers * 0.9, 3_000),
        np.full(3_000, 1e9),
        np.full(3_000, False),
        servers,
    )
    found = simulate(given, [5] * 3_000)
    assert count_servers(given.arrivals, found.waits, given.handlings) == servers
