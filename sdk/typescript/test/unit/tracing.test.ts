import { context, metrics, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Logger, MemoryBroker, Reject } from "../../src/index.ts";

const silent: Logger = { info: () => {}, warn: () => {}, error: () => {} };
let spans: InMemorySpanExporter;
let measured: InMemoryMetricExporter;
let reader: PeriodicExportingMetricReader;
let broker: MemoryBroker;

beforeEach(() => {
  spans = new InMemorySpanExporter();
  measured = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  reader = new PeriodicExportingMetricReader({ exporter: measured, exportIntervalMillis: 3_600_000 });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] }));
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
  broker = new MemoryBroker({ modules: ["crm"] });
});

afterEach(async () => {
  broker.close();
  await reader.shutdown();
  context.disable();
  trace.disable();
  metrics.disable();
});

async function figures(name: string) {
  await reader.forceFlush();
  const all =
    measured
      .getMetrics()
      .at(-1)
      ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? [];
  const found = all.find((each) => each.descriptor.name === name);
  return (found?.dataPoints ?? []).map(({ value, attributes }) => ({ value, attributes }));
}

test("a handling is a child of its send, and links to it", async () => {
  const client = await broker.connect({ logger: silent });
  const outer = trace.getTracer("test").startSpan("outer");
  await context.with(trace.setSpan(context.active(), outer), () =>
    client.crm.send("leads.create", {}, { messageId: "m-1" }),
  );
  let inside: string | undefined;
  for await (const item of client.crm.stream("leads.create")) {
    await item.handle(async () => {
      await Promise.resolve();
      inside = trace.getActiveSpan()?.spanContext().spanId;
    });
    break;
  }
  await client.close();
  const [send, process] = spans.getFinishedSpans();
  expect(send).toMatchObject({
    name: "send cliente_memory:crm.leads.create.medium",
    kind: SpanKind.PRODUCER,
    attributes: {
      "messaging.system": "rabbitmq",
      "messaging.operation.name": "send",
      "messaging.operation.type": "send",
      "messaging.destination.name": "cliente_memory:crm.leads.create.medium",
      "messaging.rabbitmq.destination.routing_key": "crm.leads.create.medium",
      "messaging.message.id": "m-1",
      "messaging.message.body.size": 2,
    },
  });
  expect(send?.parentSpanContext?.spanId).toBe(outer.spanContext().spanId);
  expect(process).toMatchObject({
    name: "process cliente_memory:crm.leads.create.medium:cliente_memory.crm.leads.create",
    kind: SpanKind.CONSUMER,
    attributes: { "kryonix.attempt": 1, "messaging.operation.type": "process" },
  });
  expect(process?.parentSpanContext?.spanId).toBe(send?.spanContext().spanId);
  expect(process?.links.map((link) => link.context.spanId)).toEqual([send?.spanContext().spanId]);
  expect(inside).toBe(process?.spanContext().spanId);
  expect(await figures("messaging.client.sent.messages")).toMatchObject([{ value: 1 }]);
  expect(await figures("messaging.client.operation.duration")).toMatchObject([{ value: { count: 1 } }]);
  expect(await figures("messaging.client.consumed.messages")).toMatchObject([{ value: 1 }]);
});

test("a failed send and a rejected message are errors of their spans", async () => {
  const client = await broker.connect({ logger: silent });
  await client.marketing.send("campanhas.enviar", {}).catch(() => {});
  await client.crm.send("leads.create", {});
  for await (const item of client.crm.stream("leads.create")) {
    await item.handle(() => {
      throw new Reject("no");
    });
    break;
  }
  await client.close();
  const failed = spans.getFinishedSpans().filter((span) => span.status.code === SpanStatusCode.ERROR);
  expect(failed.map((span) => span.attributes["error.type"])).toEqual(["NotRoutable", "Reject"]);
  const sent = await figures("messaging.client.sent.messages");
  expect(sent.map((each) => each.attributes["error.type"])).toEqual(["NotRoutable", undefined]);
});

test("without an OpenTelemetry SDK no header is added", async () => {
  trace.disable();
  metrics.disable();
  const client = await broker.connect({ logger: silent });
  await client.crm.send("leads.create", {});
  await client.close();
  expect(broker.messages("crm", "leads.create")[0]?.headers).not.toHaveProperty("traceparent");
});
