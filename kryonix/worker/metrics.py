"""A worker's Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kryonix.messaging import Handler, Message, OutcomeSink, Reject
from kryonix.messaging.outcomes import Note
from kryonix.monitoring.endpoint import Endpoint
from kryonix.topology.naming import priority_name

_ROUTE = ("tenant", "module", "action")
_WAIT_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class WorkerMetrics:
    """The metrics of one worker, in their own registry. Labels: tenant, module and action, of waits the priority."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, text: str, labels: Sequence[str] = _ROUTE) -> Gauge:
            return Gauge(f"kryonix_worker_{name}", text, labels, registry=registry)

        self.consumers = gauge("consumers", "Consumers taking messages.")
        self.draining = gauge("draining_consumers", "Consumers finishing their messages.")
        self.depth = gauge("queue_depth", "Ready and unacked messages, at the last reading.")
        self.readable = gauge("figures_readable", "1 if the last reading of the queue figures succeeded.", ())
        self._messages = Counter(
            "kryonix_worker_messages", "Messages by outcome.", (*_ROUTE, "outcome"), registry=registry
        )
        self._seconds = Histogram("kryonix_worker_handler_seconds", "Time in the handler.", _ROUTE, registry=registry)
        self._wait = Histogram(
            "kryonix_worker_wait_seconds",
            "From the broker's receive time to the handler's start, at the first attempt.",
            (*_ROUTE, "priority"),
            registry=registry,
            buckets=_WAIT_BUCKETS_S,
        )
        self.moves = Counter(
            "kryonix_worker_scaling", "Changes of the number of consumers.", (*_ROUTE, "direction"), registry=registry
        )
        self._notes = Counter(
            "kryonix_worker_outcome_notes",
            "Notes of what became of messages: written, or dropped because the sink was too slow or failed.",
            ("tenant", "result"),
            registry=registry,
        )
        self._dropped = 0
        self._endpoint: Endpoint | None = None

    def serve(self, host: str, port: int) -> None:
        """Answer GET and HEAD of `/metrics` in a thread. Raises InvalidChoice if the port is not available."""
        self._endpoint = Endpoint(self.registry, host, port, option="--metrics-port")

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()

    def measured(self, route: tuple[str, str, str], handler: Handler) -> Handler:
        """Return the handler with metrics."""

        async def handle(message: Message) -> None:
            self._waited(route, message)
            started, outcome = time.perf_counter(), "interrupted"
            try:
                await handler(message)
                outcome = "done"
            except Exception as error:
                outcome = "rejected" if isinstance(error, Reject) else "retried"
                raise
            finally:
                self._seconds.labels(*route).observe(time.perf_counter() - started)
                self._messages.labels(*route, outcome).inc()

        return handle

    def counted(self, tenant: str, sink: OutcomeSink) -> OutcomeSink:
        """Return the sink with a count of the notes that it has written."""
        return _Counted(sink, self._notes.labels(tenant, "written"))

    def dropped(self, tenant: str, notes: int) -> None:
        """Take the number of notes that the worker has dropped so far."""
        self._notes.labels(tenant, "dropped").inc(notes - self._dropped)
        self._dropped = notes

    def _waited(self, route: tuple[str, str, str], message: Message) -> None:
        """Count each message once: the time before a further attempt is the retry's delay."""
        if message.received_at is not None and message.attempt == 1:
            waited = (datetime.now(UTC) - message.received_at).total_seconds()
            priority = priority_name(message.priority)
            self._wait.labels(*route, priority).observe(max(waited, 0.0))  # the two clocks may differ


class _Counted:
    """A sink that counts what it has written."""

    def __init__(self, sink: OutcomeSink, written: Counter) -> None:
        self._sink, self._written = sink, written

    async def write(self, notes: Sequence[Note], /) -> None:
        await self._sink.write(notes)
        self._written.inc(len(notes))

    async def close(self) -> None:
        await self._sink.close()
