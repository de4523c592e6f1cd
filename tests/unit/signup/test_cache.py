"""A cached value with many readers and few fetches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from kryonix.signup.monitoring import Cached
from tests.unit.signup.test_rate import Clock


def test_a_value_is_fetched_once_until_it_is_old() -> None:
    clock, fetched = Clock(), iter(range(1, 10))
    cached = Cached(5, lambda: next(fetched), 0, clock)
    assert [cached.get() for _ in range(3)] == [1, 1, 1]
    clock.now = 5
    assert cached.get() == 2


def test_concurrent_readers_get_the_old_value_during_a_fetch() -> None:
    begun, go_on = Event(), Event()

    def fetch() -> str:
        begun.set()
        assert go_on.wait(60)
        return "new"

    cached = Cached(5, fetch, "old")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cached.get)
        assert begun.wait(60)
        assert cached.get() == "old"
        go_on.set()
        assert first.result(60) == "new"
