/**
 * The TypeScript SDK as a program of its own, for tests in another language.
 *
 * Commands come as lines of JSON, `{"id": 1, "op": "send", …}`. Answers go out as such, `{"id": 1, "ok": …}` or
 * `{"id": 1, "error": {"name": …, "message": …}}`, and so does each message that is handled, `{"message": …}`.
 */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { context, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { parseCatalog } from "../../src/catalog.ts";
import { MessagingClient } from "../../src/client.ts";
import { Reject, Retry } from "../../src/errors.ts";
import { type IdempotencyStore, MemoryIdempotency, PostgresIdempotency } from "../../src/idempotency.ts";
import type { Message, SendOptions } from "../../src/message.ts";

trace.setGlobalTracerProvider(new BasicTracerProvider());
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

interface Command {
  readonly id: number;
  readonly op: string;
  readonly module: string;
  readonly action: string;
  readonly data: unknown;
  /** Data as bytes, in base 64. */
  readonly bytes?: string;
  readonly options?: SendOptions & { readonly timeout?: number };
  readonly trace?: string;
  readonly uri: string;
  readonly managementUrl: string;
  /** A file with the catalog, as JSON. */
  readonly catalog: string;
  /** How many messages to remember; or a connection string and a table to do so. */
  readonly idempotency?: number | readonly [string, string];
  /** For consume: failures before the message is done; or a reason to reject it. */
  readonly failures?: number;
  readonly reject?: string;
  readonly concurrency?: number;
  readonly prefetch?: number;
  readonly count: number;
  readonly window: number;
  readonly timeout: number;
}

let client: MessagingClient | undefined;

function write(line: object): void {
  process.stdout.write(`${JSON.stringify(line, plain)}\n`);
}

function plain(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}

async function run(command: Command): Promise<unknown> {
  switch (command.op) {
    case "connect":
      client = await MessagingClient.connect({
        amqpUri: command.uri,
        managementUrl: command.managementUrl,
        catalog: parseCatalog(JSON.parse(readFileSync(command.catalog, "utf8"))),
        application: "agent",
        timeout: 60,
        idempotency: storeOf(command.idempotency),
      });
      return true;
    case "send":
      return await inTrace(command.trace, () => {
        const data = command.bytes === undefined ? command.data : Buffer.from(command.bytes, "base64");
        return client!.module(command.module).send(command.action, data, command.options);
      });
    case "burst":
      return await burst(command);
    case "consume":
      await client!.module(command.module).consume(command.action, (message) => handle(message, command), {
        concurrency: command.concurrency ?? 10,
        prefetch: command.prefetch,
        timeout: 60,
      });
      return true;
    case "state":
      return { connected: client?.connected };
    case "close":
      await client?.close(command.timeout);
      return true;
    default:
      throw new TypeError(`there is no ${command.op}`);
  }
}

function storeOf(given: Command["idempotency"]): IdempotencyStore | undefined {
  if (given === undefined) return undefined;
  return typeof given === "number" ? new MemoryIdempotency(given) : new PostgresIdempotency(...given);
}

function inTrace<Result>(traceId: string | undefined, work: () => Result): Result {
  if (traceId === undefined) return work();
  const sender = { traceId, spanId: "00f067aa0ba902b7", traceFlags: 1 };
  return context.with(trace.setSpanContext(ROOT_CONTEXT, sender), work);
}

/** Send messages with their numbers as ids. */
async function burst(command: Command): Promise<unknown> {
  const messages = Array.from({ length: command.count }, (_, number) => ({
    module: command.module,
    action: command.action,
    data: { n: number },
    messageId: String(number),
  }));
  const batch = await client!.sendMany(messages, { window: command.window, timeout: command.timeout });
  return { confirmed: batch.sent.length, failed: batch.failed.map(([, error]) => error.message) };
}

function handle(message: Message, command: Command): void {
  const { data } = message;
  const bytes = Buffer.isBuffer(data) ? { bytes: data.toString("base64"), data: null } : {};
  write({ message: { ...message, ...bytes, trace: trace.getActiveSpan()?.spanContext().traceId } });
  if (message.attempt <= (command.failures ?? 0)) throw new Retry();
  if (command.reject !== undefined) throw new Reject(command.reject);
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as Command;
  run(command).then(
    (ok) => write({ id: command.id, ok }),
    ({ name, message }: Error) => write({ id: command.id, error: { name, message } }),
  );
}
await client?.close(0);
