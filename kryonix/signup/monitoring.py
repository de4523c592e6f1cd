"""Readiness of the service, and its Prometheus metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import QUERIES, Database

_V = TypeVar("_V")


class Cached(Generic[_V]):
    """Fetch a value at most once in `seconds`. While one caller fetches, others get the previous value."""

    def __init__(
        self, seconds: float, fetch: Callable[[], _V], first: _V, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`first` is the value until one has been fetched."""
        self._seconds, self._fetch, self._clock = seconds, fetch, clock
        self._value, self._at = first, -math.inf
        self._fetching = Lock()

    def get(self) -> _V:
        """Return the value. Raises what `fetch` raises."""
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
"""Maximum age of figures from the database, in seconds."""


def method_label(method: str) -> str:
    """Return the method, or `other`: a caller can send any word, and each would become a time series."""
    return method if method in _METHODS else "other"


class Metrics(Collector):
    """Count requests in this process, and read operations and events from the database on each scrape.

    No label contains a tenant's name.
    """

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("kryonix_signup_requests", "Requests.", labels, registry=self._registry)
        self._seconds = Histogram(
            "kryonix_signup_request_seconds", "Request duration in seconds.", ("route",), registry=self._registry
        )
        self._database = database
        self._kept: Cached[list[Metric]] = Cached(_FRESH_S, self._gauges, [])
        self._registry.register(self)

    def saw(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `method` is a `method_label`, and `route` the path template, never the path."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []  # registering must not query the database

    def collect(self) -> Iterator[Metric]:
        yield from self._kept.get()

    def _gauges(self) -> list[Metric]:
        """Return nothing if the database does not answer: the request metrics are still served."""

        def gauge(name: str, about: str, **more: Any) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"kryonix_signup_{name}", about, **more)

        operations = gauge("operations", "Operations by status and kind.", labels=["status", "kind"])
        try:
            with self._database.transaction() as connection:
                for row in connection.execute(QUERIES["count_operations"]):
                    operations.add_metric([row["status"], row["kind"]], row["count"])
                waiting = connection.execute(QUERIES["oldest_waiting"]).fetchone() or {"seconds": 0}
                outbox = connection.execute(QUERIES["count_unpublished"]).fetchone() or {"count": 0, "oldest_s": 0}
        except RegistryError:
            return []
        return [
            operations,
            gauge("oldest_queued_seconds", "Age of the oldest queued operation.", value=waiting["seconds"]),
            gauge("events_unpublished", "Events in the outbox.", value=outbox["count"]),
            gauge("oldest_event_seconds", "Age of the oldest event in the outbox.", value=outbox["oldest_s"]),
        ]


FRESH_S: Final = 1
"""Maximum age of the answer in seconds, so that frequent probes cost one query."""

_ALIVE_S: Final = 30


class Readiness(BaseModel):
    """State of the services that requests and operations need."""

    ready: bool
    database: str
    workers: int | None


AWAY: Final = Readiness(ready=False, database="does not answer", workers=None)


def look(database: Database) -> Readiness:
    """Ask the database for its workers."""
    try:
        with database.transaction() as connection:
            row = connection.execute(QUERIES["workers_alive"], {"seconds": _ALIVE_S}).fetchone()
    except RegistryError:
        return AWAY
    workers = 0 if row is None else int(row["count"])
    return Readiness(ready=workers > 0, database="answers", workers=workers)
