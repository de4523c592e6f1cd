from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kryonix.messaging import MemoryBroker, Message, Reject, tracing
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


def named(exporter: InMemorySpanExporter, start: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name.startswith(start)]
    return span


async def test_a_trace_continues_from_sender_to_handler(spans: InMemorySpanExporter) -> None:
    inside: list[int] = []

    async def handler(message: Message) -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    seen = Seen(handler)
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {})
        (message,) = await seen.wait(1)
        await eventually_async(lambda: len(spans.get_finished_spans()) == 2)
    send, process = named(spans, "send"), named(spans, "process")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert send.context is not None
    assert process.context is not None
    assert process.parent is not None
    assert (process.context.trace_id, process.parent.span_id) == (send.context.trace_id, send.context.span_id)
    trace_and_span = f"00-{send.context.trace_id:032x}-{send.context.span_id:016x}-"
    assert message.headers["traceparent"].startswith(trace_and_span)
    assert inside == [process.context.span_id]


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


async def test_a_failure_is_recorded_on_the_span(spans: InMemorySpanExporter) -> None:
    async def reject(message: Message) -> None:
        raise Reject("no")

    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", Seen(reject))
        await client.crm.send("leads.create", {})
        await eventually_async(lambda: any(span.name.startswith("process") for span in spans.get_finished_spans()))
    span = named(spans, "process")
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


async def test_an_invalid_trace_header_is_ignored(spans: InMemorySpanExporter) -> None:
    seen = Seen()
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {}, headers={"baggage": 3})
        await seen.wait(1)
    assert [message.data for message in seen.messages] == [{}]
