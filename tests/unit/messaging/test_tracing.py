"""Spans, trace context and metrics, as an OpenTelemetry SDK gets them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kryonix.messaging import LearnedRouter, MemoryBroker, Message, NotConnected, Reject, metrics, tracing
from kryonix.messaging.memory import MemoryTransport
from kryonix.messaging.message import Envelope, Route
from tests.support.learned import model_file, model_of, only_device
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

SENT_TO = "cliente_memory:crm.leads.create.medium"
TAKEN_FROM = f"{SENT_TO}:cliente_memory.crm.leads.create"
OF_SEND = {
    "messaging.system": "rabbitmq",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.name": SENT_TO,
}
OF_PROCESS = {
    **OF_SEND,
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": TAKEN_FROM,
}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "decisions", [])
    monkeypatch.setattr(metrics, "_instruments", metrics.Instruments(provider.get_meter("test")))
    return reader


def named(exporter: InMemorySpanExporter, start: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name.startswith(start)]
    return span


def points(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Return the attributes and the count of each point, by metric and unit."""
    data = reader.get_metrics_data()
    found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    return {
        f"{metric.name} {metric.unit}": [
            (dict(point.attributes or {}), getattr(point, "count", getattr(point, "value", None)))
            for point in metric.data.data_points
        ]
        for metric in found
    }


async def test_a_trace_continues_from_sender_to_handler(spans: InMemorySpanExporter) -> None:
    inside: list[int] = []

    async def handler(message: Message) -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    seen = Seen(handler)
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {}, message_id="m-1")
        (message,) = await seen.wait(1)
        await eventually_async(lambda: len(spans.get_finished_spans()) == 2)
    send, process = named(spans, "send"), named(spans, "process")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert send.context is not None
    assert process.context is not None
    assert process.parent is not None
    assert (process.context.trace_id, process.parent.span_id) == (send.context.trace_id, send.context.span_id)
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    trace_and_span = f"00-{send.context.trace_id:032x}-{send.context.span_id:016x}-"
    assert message.headers["traceparent"].startswith(trace_and_span)
    assert inside == [process.context.span_id]


async def test_names_and_attributes_are_those_of_the_conventions(spans: InMemorySpanExporter) -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.send("leads.create", {}, message_id="m-1")
        await client.crm.consume("leads.create", Seen())
        await eventually_async(lambda: len(spans.get_finished_spans()) == 2)
    send, process = named(spans, "send"), named(spans, "process")
    both = {"messaging.message.id": "m-1", "messaging.rabbitmq.destination.routing_key": "crm.leads.create.medium"}
    assert (send.name, process.name) == (f"send {SENT_TO}", f"process {TAKEN_FROM}")
    assert dict(send.attributes or {}) == {**OF_SEND, **both, "messaging.message.body.size": 2}
    assert dict(process.attributes or {}) == {**OF_PROCESS, **both, "kryonix.attempt": 1}


async def test_an_operation_on_a_broker_has_its_address(spans: InMemorySpanExporter) -> None:
    transport: Any = SimpleNamespace(server=("broker.example", 5671))
    with tracing.sending(Envelope("e", "k", b"x", "m"), transport):
        pass
    attributes = named(spans, "send").attributes or {}
    assert (attributes["server.address"], attributes["server.port"]) == ("broker.example", 5671)


def test_a_key_of_another_application_is_in_no_name(spans: InMemorySpanExporter) -> None:
    """Names and metrics have few values; the attribute of a span may be anything."""
    route = Route("crm", "leads.create", "q", "fan", "order.4711")
    with tracing.processing(Message({}, "", 1, {}, route), None):
        pass
    span = named(spans, "process")
    assert span.name == "process fan:q"
    attributes = span.attributes or {}
    assert attributes["messaging.rabbitmq.destination.routing_key"] == "order.4711"
    assert "messaging.message.id" not in attributes
    assert span.links == ()


async def test_a_trace_is_active_within_a_stream_only(spans: InMemorySpanExporter) -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.send("leads.create", {})
        async with client.crm.stream("leads.create") as stream:
            async for item in stream:
                async with item:
                    assert trace.get_current_span().get_span_context().is_valid
                break
    assert not trace.get_current_span().get_span_context().is_valid
    assert named(spans, "process").parent is not None


async def test_a_failure_is_recorded_on_the_span(spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
    async def reject(message: Message) -> None:
        raise Reject("no")

    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", Seen(reject))
        await client.crm.send("leads.create", {})
        await eventually_async(lambda: any(span.name.startswith("process") for span in spans.get_finished_spans()))
    span = named(spans, "process")
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert (span.attributes or {})["error.type"] == "Reject"
    assert points(reader)["messaging.process.duration s"] == [({**OF_PROCESS, "error.type": "Reject"}, 1)]


async def test_a_send_that_fails_has_its_error(spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
    broker = MemoryBroker(modules=["crm"])
    async with await broker.connect() as client:
        broker.go_away()
        with pytest.raises(NotConnected):
            await client.crm.send("leads.create", {}, timeout=0.01)
    assert named(spans, "send").status.status_code is StatusCode.ERROR
    failed = [({**OF_SEND, "error.type": "NotConnected"}, 1)]
    assert points(reader)["messaging.client.operation.duration s"] == failed


async def test_metrics_count_and_time_both_sides(reader: InMemoryMetricReader) -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        consumer = await client.crm.consume("leads.create", Seen())
        for _ in range(3):
            await client.crm.send("leads.create", {})
        await eventually_async(lambda: consumer.handled == 3)
    assert points(reader) == {
        "messaging.client.sent.messages {message}": [(OF_SEND, 3)],
        "messaging.client.consumed.messages {message}": [(OF_PROCESS, 3)],
        "messaging.client.operation.duration s": [(OF_SEND, 3)],
        "messaging.process.duration s": [(OF_PROCESS, 3)],
    }


async def test_without_an_sdk_nothing_is_made() -> None:
    assert metrics.are_off()
    route, transport = (
        Route("crm", "leads.create", "q", "e", "k"),
        MemoryTransport(MemoryBroker("acme", modules=["crm"])),
    )
    sent = tracing.sending(Envelope("e", "k", b"x", "m"), transport)
    operations = [sent, tracing.processing(Message({}, "m", 1, {}, route), None)]
    assert {type(operation) for operation in operations} == {tracing.Operation}


async def test_an_invalid_trace_header_is_ignored(spans: InMemorySpanExporter) -> None:
    seen = Seen()
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {}, headers={"baggage": 3})
        await seen.wait(1)
    assert [message.data for message in seen.messages] == [{}]


async def test_metrics_count_decisions_and_fallbacks(reader: InMemoryMetricReader, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_bytes(model_file(model_of(9, usual=only_device("web"))))
    router = LearnedRouter(file, mode="on")
    async with await MemoryBroker(modules=["crm"]).connect(router=router) as client:
        for _ in range(1_100):
            await client.crm.send("leads.create", {}, device="mobile")
    action, found = {"kryonix.action": "crm.leads.create"}, points(reader)
    assert found["kryonix.routing.fallbacks {fallback}"] == [(action, 1)]
    decided = {labels["kryonix.decided_by"]: count for labels, count in found["kryonix.routing.decisions {message}"]}
    assert decided["learned"] + decided["rules"] == 1_100
    assert decided["learned"] >= 900
