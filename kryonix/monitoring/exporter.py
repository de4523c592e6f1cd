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
_AGAIN_S: Final = 60
"""Longest pause after a failed reading, for sources with a longer interval."""
_UNREAD: Final = "not read yet"


class PartlyRead(KryonixError):
    """A reading in which some figures can't be read. It counts as failed; `metrics` are the others."""

    def __init__(self, problem: str, metrics: Iterable[Metric]) -> None:
        super().__init__(problem)
        self.metrics = list(metrics)


class _Source:
    """The last figures of one source."""

    def __init__(self, name: str, read: Read, every_s: float) -> None:
        self.name, self._read, self._every_s = name, read, every_s
        self._lock = Lock()
        self._metrics: list[Metric] = []
        self._read_at = -math.inf
        self._problem = _UNREAD
        self.failures, self.seconds = 0, math.nan

    def run(self, ending: Event) -> None:
        """Read at intervals until the end."""
        while not ending.is_set():
            read = self.read()
            ending.wait(self._every_s if read else min(self._every_s, _AGAIN_S))

    def read(self) -> bool:
        """Read once, and return True if all was read. A failure leaves no figures: old ones would look current."""
        began = time.monotonic()
        problem, metrics = "", list[Metric]()
        try:
            metrics = list(self._read())
        except PartlyRead as error:
            problem, metrics = str(error), error.metrics
        except KryonixError as error:
            problem = str(error)
        except Exception as error:  # the other sources and the endpoint go on
            problem = f"{type(error).__name__}: {error}"
            log.exception("%s: unexpected error", self.name)
        now = time.monotonic()
        with self._lock:
            before, self._problem = self._problem, problem
            self._metrics, self._read_at = metrics, now
            self.seconds, self.failures = now - began, self.failures + bool(problem)
        if problem != before and (problem or before != _UNREAD):
            log.warning("%s: %s", self.name, problem or "readable again")
        return not problem

    def current(self) -> tuple[list[Metric], bool]:
        """Return the figures of the last reading, and True if it read all; none if it is too long ago."""
        with self._lock:
            fresh = time.monotonic() - self._read_at <= max(_STALE * self._every_s, self.seconds + self._every_s)
            return (self._metrics, not self._problem) if fresh else ([], False)


class Exporter(Collector):
    """The figures of all sources, by name, each read by a thread of its own."""

    def __init__(
        self, sources: Mapping[str, Read], every_s: float, rare: Mapping[str, Read] | None = None, rare_s: float = 900
    ) -> None:
        """`rare` are sources that are read every `rare_s` seconds only."""
        self._sources = [_Source(name, read, every_s) for name, read in sources.items()]
        self._sources += [_Source(name, read, rare_s) for name, read in (rare or {}).items()]

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
            metrics, whole_reading = source.current()
            readable.add_metric([source.name], whole_reading)
            failures.add_metric([source.name], source.failures)
            if not math.isnan(source.seconds):
                seconds.add_metric([source.name], source.seconds)
            for metric in metrics:
                whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                whole.samples.extend(metric.samples)
        yield from (*merged.values(), readable, failures, seconds)
