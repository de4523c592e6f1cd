"""Readiness of the service, and its Prometheus metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.sql import QUERIES

__all__ = ["AWAY", "FRESH_S", "Cached", "Metrics", "Readiness", "look", "method_label"]


_V = TypeVar("_V")


class Cached(Generic[_V]):
    """Fetches a value at most once in `seconds`. While one caller fetches, the others get the value before."""

    def __init__(
        self, seconds: float, fetch: Callable[[], _V], first: _V, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`first` is the value until there is one."""
        self._seconds, self._fetch, self._clock = seconds, fetch, clock
        self._value, self._at = first, -math.inf
        self._fetching = Lock()

    def get(self) -> _V:
        """Raises what the fetching raises."""
        if self._clock() - self._at < self._seconds or not self._fetching.acquire(blocking=False):
            return self._value
        try:
            self._value = self._fetch()
        finally:
            self._at = self._clock()
            self._fetching.release()
        return self._value


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FRESH_S: Final = 5
"""How old the database's figures may be."""


def method_label(method: str) -> str:
    """A request's method among the known ones: a caller can send any word, and each would be a series for ever."""
    return method if method in _METHODS else "other"


class Metrics:
    """Counts requests, and asks the database for the rest when it is scraped. No tenant's name is in any of it."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("kryonix_signup_requests", "Requests.", labels, registry=self._registry)
        self._seconds = Histogram(
            "kryonix_signup_request_seconds", "Until the end.", ("route",), registry=self._registry
        )
        self._registry.register(_Rows(database))

    def saw(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the path's template, never the path."""
        self._requests.labels(method_label(method), route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """What a scrape is answered."""
        return generate_latest(self._registry)


class _Rows(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Cached[list[Metric]] = Cached(_FRESH_S, self._gauges, [])

    def describe(self) -> list[Metric]:
        return []  # so that the database is not asked when this is registered

    def collect(self) -> Iterator[Metric]:
        yield from self._kept.get()

    def _gauges(self) -> list[Metric]:
        """Nothing where the database does not answer: the requests' figures are told all the same."""
        try:
            return self._ask()
        except RegistryError:
            return []

    def _ask(self) -> list[Metric]:
        operations = GaugeMetricFamily(
            "kryonix_signup_operations", "Operations by status and kind.", labels=["status", "kind"]
        )
        with self._database.transaction() as connection:
            for row in connection.execute(QUERIES["count_operations"]):
                operations.add_metric([row["status"], row["kind"]], row["count"])
            waiting = connection.execute(QUERIES["oldest_waiting"]).fetchone() or {"seconds": 0}
            told = connection.execute(QUERIES["count_unpublished"]).fetchone() or {"count": 0, "oldest_s": 0}
        return [
            operations,
            GaugeMetricFamily("kryonix_signup_oldest_queued_seconds", "Age of it.", value=waiting["seconds"]),
            GaugeMetricFamily("kryonix_signup_events_unpublished", "Events in the outbox.", value=told["count"]),
            GaugeMetricFamily("kryonix_signup_oldest_event_seconds", "Age of it.", value=told["oldest_s"]),
        ]


FRESH_S: Final = 1
"""How old the answer may be: who asks more often costs the database no more."""

_ALIVE_S: Final = 30


class Readiness(BaseModel):
    """What the service needs to work, and whether it is there."""

    ready: bool
    database: str
    workers: int | None


AWAY: Final = Readiness(ready=False, database="does not answer", workers=None)


def look(database: Database) -> Readiness:
    """Ask the database."""
    try:
        with database.transaction() as connection:
            row = connection.execute(QUERIES["workers_alive"], {"seconds": _ALIVE_S}).fetchone()
    except RegistryError:
        return AWAY
    workers = 0 if row is None else int(row["count"])
    return Readiness(ready=workers > 0, database="answers", workers=workers)
