"""Collect figures from slow sources at intervals, so that a scrape never waits for one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event, Lock, Thread
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kryonix.errors import KryonixError

log = logging.getLogger("kryonix.monitoring")

Read = Callable[[], Iterable[Metric]]

_STALE: Final = 3
"""Intervals after which figures count as unreadable: their source hangs."""


class _Source:
    """The last figures of one source."""

    def __init__(self, name: str, read: Read, every_s: float) -> None:
        self.name, self._read, self._every_s = name, read, every_s
        self._lock = Lock()
        self._metrics: list[Metric] = []
        self._read_at = -math.inf
        self._problem = ""
        self.failures, self.seconds = 0, math.nan

    def run(self, ending: Event) -> None:
        """Read at intervals until the end."""
        while not ending.is_set():
            self.read()
            ending.wait(self._every_s)

    def read(self) -> None:
        """Read once. A failure leaves no figures: old ones would look like current ones."""
        began = time.monotonic()
        problem, metrics = "", list[Metric]()
        try:
            metrics = list(self._read())
        except KryonixError as error:
            problem = str(error)
        except Exception as error:  # the other sources and the endpoint go on
            problem = f"{type(error).__name__}: {error}"
            log.exception("%s: unexpected error", self.name)
        now = time.monotonic()
        with self._lock:
            self._metrics, self._read_at = metrics, now
            self.seconds, self.failures = now - began, self.failures + bool(problem)
        if problem != self._problem:
            log.warning("%s: %s", self.name, problem or "readable again")
        self._problem = problem

    def current(self) -> list[Metric]:
        """Return the figures of the last reading; none if it failed, or is too long ago."""
        with self._lock:
            fresh = time.monotonic() - self._read_at <= max(_STALE * self._every_s, self.seconds + self._every_s)
            return self._metrics if fresh else []


class Exporter(Collector):
    """The figures of all sources, by name, each read by a thread of its own."""

    def __init__(self, sources: Mapping[str, Read], every_s: float) -> None:
        self._sources = [_Source(name, read, every_s) for name, read in sources.items()]

    def start(self, ending: Event) -> None:
        """Read every source until `ending` is set."""
        for source in self._sources:
            Thread(target=source.run, args=[ending], daemon=True, name=f"kryonix exporter {source.name}").start()

    def read(self) -> None:
        """Read every source once."""
        for source in self._sources:
            source.read()

    def describe(self) -> list[Metric]:
        return []  # registering must not wait for a source

    def collect(self) -> Iterator[Metric]:
        """Return the figures of all sources, those of one name together, and what was readable."""
        readable = GaugeMetricFamily(
            "kryonix_exporter_source_readable", "1 if the last reading succeeded and is recent.", labels=["source"]
        )
        failures = CounterMetricFamily("kryonix_exporter_source_failures", "Readings that failed.", labels=["source"])
        seconds = GaugeMetricFamily(
            "kryonix_exporter_source_seconds", "Duration of the last reading.", labels=["source"]
        )
        merged: dict[str, Metric] = {}
        for source in self._sources:
            metrics = source.current()
            readable.add_metric([source.name], bool(metrics))
            failures.add_metric([source.name], source.failures)
            if not math.isnan(source.seconds):
                seconds.add_metric([source.name], source.seconds)
            for metric in metrics:
                whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                whole.samples.extend(metric.samples)
        yield from (*merged.values(), readable, failures, seconds)
