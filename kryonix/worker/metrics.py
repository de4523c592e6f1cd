"""What a worker tells Prometheus about itself."""

from __future__ import annotations

import time
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from kryonix.errors import InvalidChoice
from kryonix.messaging import Handler, Message, Reject

__all__ = ["WorkerMetrics"]

_ROUTE = ("tenant", "module", "action")


class WorkerMetrics:
    """The figures of one worker, in a registry of their own."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self.registry = registry = CollectorRegistry()
        self._consumers = Gauge("kryonix_worker_consumers", "Consumers at work.", _ROUTE, registry=registry)
        self._draining = Gauge(
            "kryonix_worker_draining_consumers", "Consumers that take no more and end.", _ROUTE, registry=registry
        )
        self._depth = Gauge(
            "kryonix_worker_queue_depth", "Ready and unacked messages, when last read.", _ROUTE, registry=registry
        )
        self._messages = Counter(
            "kryonix_worker_messages", "Messages by how they ended.", (*_ROUTE, "outcome"), registry=registry
        )
        self._seconds = Histogram("kryonix_worker_handler_seconds", "Time in the handler.", _ROUTE, registry=registry)
        self._moves = Counter(
            "kryonix_worker_scaling", "Decisions that changed the consumers.", (*_ROUTE, "direction"), registry=registry
        )
        self._readable = Gauge(
            "kryonix_worker_figures_readable", "1 if the queues' figures were read last time.", registry=registry
        )
        self._server: WSGIServer | None = None

    def serve(self, host: str, port: int) -> None:
        """Answer `GET /metrics` from now on, in a thread. Raises InvalidChoice where the port can't be had."""
        try:
            self._server, _ = start_http_server(port, host, registry=self.registry)
        except (OSError, UnicodeError) as error:
            problem = f"--metrics-port {port} can't be opened on {host}: {getattr(error, 'strerror', None) or error}"
            raise InvalidChoice(f"{problem}. Choose another") from error

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def measured(self, module: str, action: str, handler: Handler) -> Handler:
        """The handler, timed and counted."""
        route = (self._tenant, module, action)

        async def handle(message: Message) -> None:
            started, outcome = time.perf_counter(), "interrupted"
            try:
                await handler(message)
                outcome = "done"
            except Reject:
                outcome = "rejected"
                raise
            except Exception:
                outcome = "retried"
                raise
            finally:
                self._seconds.labels(*route).observe(time.perf_counter() - started)
                self._messages.labels(*route, outcome).inc()

        return handle

    def stand(self, module: str, action: str, consumers: int, draining: int) -> None:
        self._consumers.labels(self._tenant, module, action).set(consumers)
        self._draining.labels(self._tenant, module, action).set(draining)

    def moved(self, module: str, action: str, direction: str) -> None:
        self._moves.labels(self._tenant, module, action, direction).inc()

    def read(self, readable: bool) -> None:
        self._readable.set(readable)

    def deep(self, module: str, action: str, depth: int) -> None:
        self._depth.labels(self._tenant, module, action).set(depth)
