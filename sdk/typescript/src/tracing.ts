/**
 * A span and the metrics of each send and each handling, by OpenTelemetry's conventions, and the W3C trace context.
 *
 * Cheap without an OpenTelemetry SDK.
 */

import {
  type Attributes,
  type Context,
  type Counter,
  context,
  createTraceState,
  type Histogram,
  isSpanContextValid,
  type Meter,
  type MeterProvider,
  metrics,
  ProxyTracerProvider,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import type { Headers, HeaderValue, Message } from "./message.ts";
import type { Server } from "./transport.ts";
import { VERSION } from "./version.ts";

const NAME = "kryonix.messaging";
const KINDS = { send: SpanKind.PRODUCER, process: SpanKind.CONSUMER } as const;
type OperationName = keyof typeof KINDS;

/** The conventions' advice for every duration. */
const BOUNDS_S = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** Return true without an OpenTelemetry SDK for traces: the API alone has only a provider that does nothing. */
function hasNoTracer(): boolean {
  const provider = trace.getTracerProvider();
  return provider instanceof ProxyTracerProvider && provider.getDelegateTracer(NAME) === undefined;
}

/** One send or handling. */
export class Operation {
  readonly #name: OperationName;
  readonly #attributes: Attributes;
  readonly #context: Context;
  readonly #span: Span;
  readonly #began = performance.now();

  constructor(name: OperationName, attributes: Attributes, details: Attributes, sender?: SpanContext) {
    this.#name = name;
    this.#attributes = attributes;
    const parent = sender === undefined ? context.active() : trace.setSpanContext(ROOT_CONTEXT, sender);
    const title = `${name} ${attributes["messaging.destination.name"]}`;
    const options = { kind: KINDS[name], attributes: { ...attributes, ...details } };
    const linked = sender === undefined ? options : { ...options, links: [{ context: sender }] };
    this.#span = trace.getTracer(NAME, VERSION).startSpan(title, linked, parent);
    this.#context = trace.setSpan(parent, this.#span);
  }

  /** Run work whose spans are children of this operation's. */
  within<Result>(work: () => Result): Result {
    return context.with(this.#context, work);
  }

  /** Add the trace context to headers: traceparent and tracestate. */
  inject(headers: Record<string, HeaderValue>): void {
    const { traceId, spanId, traceFlags, traceState } = this.#span.spanContext();
    if (!isSpanContextValid(this.#span.spanContext())) return;
    headers.traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
    const state = traceState?.serialize();
    if (state) headers.tracestate = state;
  }

  failed(error: unknown): void {
    const name = error instanceof Error ? error.name : typeof error;
    this.#attributes["error.type"] = name;
    this.#span.setAttribute("error.type", name);
    this.#span.recordException(error instanceof Error ? error : String(error));
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: name });
  }

  end(): void {
    this.#span.end();
    instruments()?.record(this.#name, (performance.now() - this.#began) / 1000, this.#attributes);
  }
}

/** Return an operation for a send; undefined without an OpenTelemetry SDK. */
export function sending(
  exchange: string,
  routingKey: string,
  messageId: string,
  size: number,
  server: Server | undefined,
): Operation | undefined {
  if (hasNoTracer() && instruments() === undefined) return undefined;
  return new Operation("send", usual("send", [exchange, routingKey], server), {
    ...(routingKey && { "messaging.rabbitmq.destination.routing_key": routingKey }),
    ...(messageId && { "messaging.message.id": messageId }),
    "messaging.message.body.size": size,
  });
}

/** Return an operation in the sender's trace, which it also links to; undefined without an OpenTelemetry SDK. */
export function processing(message: Message, server: Server | undefined): Operation | undefined {
  if (hasNoTracer() && instruments() === undefined) return undefined;
  const { route, messageId } = message;
  // Another application's key may be anything; only a key of this action is one of few.
  const isOwn = `.${route.routingKey}.`.includes(`.${route.module}.${route.action}.`);
  const destination = [route.exchange, isOwn ? route.routingKey : "", route.queue];
  const details = {
    ...(route.routingKey && { "messaging.rabbitmq.destination.routing_key": route.routingKey }),
    ...(messageId && { "messaging.message.id": messageId }),
    "kryonix.attempt": message.attempt,
  };
  return new Operation("process", usual("process", destination, server), details, senderOf(message.headers));
}

function usual(name: OperationName, destination: readonly string[], server: Server | undefined): Attributes {
  return {
    "messaging.system": "rabbitmq",
    "messaging.operation.name": name,
    "messaging.operation.type": name,
    "messaging.destination.name": destination.filter(Boolean).join(":"),
    ...(server && { "server.address": server.host, "server.port": server.port }),
  };
}

/** Return the context of the sender's span, if the headers have one. */
function senderOf(headers: Headers): SpanContext | undefined {
  const { traceparent, tracestate } = headers;
  const found = typeof traceparent === "string" ? TRACEPARENT.exec(traceparent.trim()) : null;
  if (found === null) return undefined;
  const [, traceId, spanId, flags] = found as unknown as [string, string, string, string];
  const sender: SpanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
  if (typeof tracestate === "string") sender.traceState = createTraceState(tracestate);
  return isSpanContextValid(sender) ? sender : undefined;
}

/** The instruments of one provider. */
class Instruments {
  readonly #counts: Readonly<Record<OperationName, Counter>>;
  readonly #seconds: Readonly<Record<OperationName, Histogram>>;
  readonly fallbacks: Counter;

  constructor(meter: Meter) {
    const count = (name: string, description: string) => meter.createCounter(name, { unit: "{message}", description });
    const seconds = (name: string, description: string) =>
      meter.createHistogram(name, { unit: "s", description, advice: { explicitBucketBoundaries: BOUNDS_S } });
    this.#counts = {
      send: count("messaging.client.sent.messages", "Messages sent to the broker."),
      process: count("messaging.client.consumed.messages", "Messages handed to the application."),
    };
    this.#seconds = {
      send: seconds("messaging.client.operation.duration", "Time of a send, until the broker's confirmation."),
      process: seconds("messaging.process.duration", "Time to handle a message."),
    };
    this.fallbacks = meter.createCounter("kryonix.routing.fallbacks", {
      unit: "{fallback}",
      description: "Actions that went back from a model to the rules.",
    });
    const decided = meter.createObservableCounter("kryonix.routing.decisions", {
      unit: "{message}",
      description: "Messages routed, by action and by who decided.",
    });
    decided.addCallback((result) => {
      for (const [action, counts] of total()) {
        for (const [who, number] of Object.entries(counts)) {
          result.observe(number, { "kryonix.action": action, "kryonix.decided_by": who });
        }
      }
    });
  }

  record(name: OperationName, seconds: number, attributes: Attributes): void {
    this.#counts[name].add(1, attributes);
    this.#seconds[name].record(seconds, attributes);
  }
}

/** How many messages of an action were decided by whom. */
export type Decisions = Readonly<Record<string, number>>;

/** The counts of each learned router, by action. */
export const decisions: ReadonlyMap<string, Decisions>[] = [];

function total(): Map<string, Record<string, number>> {
  const found = new Map<string, Record<string, number>>();
  for (const router of decisions) {
    for (const [action, counts] of router) {
      const sum = found.get(action) ?? {};
      for (const [who, number] of Object.entries(counts)) sum[who] = (sum[who] ?? 0) + number;
      found.set(action, sum);
    }
  }
  return found;
}

let known: { readonly provider: MeterProvider; readonly instruments: Instruments | undefined } | undefined;

/** Return the instruments of the application's meter provider; undefined without an OpenTelemetry SDK for metrics. */
function instruments(): Instruments | undefined {
  const provider = metrics.getMeterProvider();
  if (known?.provider !== provider) {
    const isReal = provider.constructor.name !== "NoopMeterProvider";
    known = { provider, instruments: isReal ? new Instruments(provider.getMeter(NAME, VERSION)) : undefined };
  }
  return known.instruments;
}

/** Count an action's fall back to the rules. */
export function fellBack(action: string): void {
  instruments()?.fallbacks.add(1, { "kryonix.action": action });
}
