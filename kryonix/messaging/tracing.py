"""Spans for send and process, and the W3C trace context in headers. Cheap without an OpenTelemetry SDK."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kryonix.messaging.message import Message

_tracer = _default = trace.get_tracer("kryonix.messaging")
_NO_SPAN: Final = nullcontext(trace.INVALID_SPAN)
_propagator = TraceContextTextMapPropagator()


def _is_off() -> bool:
    """Return True without an OpenTelemetry SDK: then only the trace context of a message is passed on."""
    return _tracer is _default and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def send_span(destination: str, routing_key: str, message_id: str, size: int) -> AbstractContextManager[Span]:
    if _is_off():
        return _NO_SPAN
    attributes = _attributes("send", destination, message_id) | {
        "messaging.rabbitmq.destination.routing_key": routing_key,
        "messaging.message.body.size": size,
    }
    return _tracer.start_as_current_span(f"send {destination}", kind=SpanKind.PRODUCER, attributes=attributes)


def process_span(message: Message) -> AbstractContextManager[Span]:
    """Return a span in the sender's trace."""
    headers, queue = message.headers, message.route.queue
    if _is_off() and "traceparent" not in headers:
        return _NO_SPAN
    return _tracer.start_as_current_span(
        f"process {queue}",
        context=_propagator.extract({key: value for key, value in headers.items() if isinstance(value, str)}),
        kind=SpanKind.CONSUMER,
        attributes=_attributes("process", queue, message.message_id) | {"kryonix.attempt": message.attempt},
        record_exception=False,
        set_status_on_exception=False,
    )


def _attributes(operation: str, destination: str, message_id: str) -> dict[str, str | int]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
        "messaging.message.id": message_id,
    }


def inject(headers: dict[str, Any]) -> None:
    """Add the current trace context, if any, to headers: traceparent and tracestate."""
    _propagator.inject(headers)


def failed(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
