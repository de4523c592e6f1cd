"""The service's figures, for Prometheus: requests as this process saw them, operations as the database has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kryonix.registry.errors import RegistryError
from kryonix.signup.cache import Cached
from kryonix.signup.database import Database
from kryonix.signup.sql import QUERIES

__all__ = ["Metrics", "method_label"]

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
