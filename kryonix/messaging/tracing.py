"""A span and the metrics of each send and each handling, by OpenTelemetry's conventions, and the W3C trace context.

Cheap without an OpenTelemetry SDK.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kryonix import __version__
from kryonix.messaging import metrics
from kryonix.messaging.message import Envelope, Message
from kryonix.messaging.transport import Transport

Server = tuple[str, int]
"""The broker's host and port."""

_tracer = _default = trace.get_tracer("kryonix.messaging", __version__)
_propagator = TraceContextTextMapPropagator()

_KINDS: Final = {"send": SpanKind.PRODUCER, "process": SpanKind.CONSUMER}


_has_no_provider = metrics.Seldom(lambda: isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider))


def _is_off() -> bool:
    """Return True without an OpenTelemetry SDK: then only the trace context of a message is passed on."""
    return _tracer is _default and _has_no_provider()


class Operation:
    """One send or handling. An exception that leaves the block is its failure."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """End the operation."""

    def failed(self, error: BaseException) -> None:
        """Note a failure that does not leave the block."""


_OFF: Final = Operation()


class _Measured(Operation):
    """An operation with a span, and with metrics if their SDK is there."""

    def __init__(
        self,
        name: str,
        destination: str,
        server: Server | None,
        details: dict[str, str | int],
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        self._name, self._context, self._links = name, context, links
        self._attributes: dict[str, str | int] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": name,
            "messaging.operation.type": name,
            "messaging.destination.name": destination,
        }
        if server is not None:
            self._attributes |= {"server.address": server[0], "server.port": server[1]}
        self._details = details
        self._block = ExitStack()

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._span = self._block.enter_context(
            _tracer.start_as_current_span(
                f"{self._name} {self._attributes['messaging.destination.name']}",
                context=self._context,
                kind=_KINDS[self._name],
                attributes={**self._attributes, **self._details},
                links=self._links,
                record_exception=False,
                set_status_on_exception=False,
            )
        )
        return self

    def failed(self, error: BaseException) -> None:
        name = type(error).__qualname__
        self._attributes["error.type"] = name
        self._span.set_attribute("error.type", name)
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, name))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.failed(error)
        self._block.close()
        if not metrics.are_off():
            metrics.record(self._name, time.perf_counter() - self._began, self._attributes)


def sending(envelope: Envelope, transport: Transport) -> Operation:
    if _is_off() and metrics.are_off():
        return _OFF
    details: dict[str, str | int] = {
        "messaging.rabbitmq.destination.routing_key": envelope.routing_key,
        "messaging.message.id": envelope.message_id,
        "messaging.message.body.size": len(envelope.body),
    }
    destination = _destination(envelope.exchange, envelope.routing_key)
    return _Measured("send", destination, transport.server, {k: v for k, v in details.items() if v != ""})


def processing(message: Message, server: Server | None) -> Operation:
    """Return an operation in the sender's trace, which it also links to."""
    headers, route = message.headers, message.route
    if _is_off() and metrics.are_off() and "traceparent" not in headers:
        return _OFF
    # Another application's key may be anything; only a key of this action is one of few.
    key = route.routing_key if f".{route.module}.{route.action}." in f".{route.routing_key}." else ""
    details: dict[str, str | int] = {
        "messaging.rabbitmq.destination.routing_key": route.routing_key,
        "messaging.message.id": message.message_id,
        "kryonix.attempt": message.attempt,
    }
    context = _propagator.extract({name: value for name, value in headers.items() if isinstance(value, str)})
    sender = trace.get_current_span(context).get_span_context()
    return _Measured(
        "process",
        _destination(route.exchange, key, route.queue),
        server,
        {name: value for name, value in details.items() if value != ""},
        context,
        [Link(sender)] if "traceparent" in headers and sender.is_valid else (),
    )


def _destination(*parts: str) -> str:
    return ":".join(part for part in parts if part)


def traced(headers: dict[str, Any]) -> dict[str, Any]:
    """Return the headers, with the current trace context, traceparent and tracestate, if there is one."""
    context: dict[str, Any] = {}
    _propagator.inject(context)
    return {**headers, **context} if context else headers
