/** A tenant on a real broker, as tests/integration/messaging/test_typescript.py provides it. */

import { readFileSync } from "node:fs";
import { afterEach, beforeAll } from "vitest";
import { type Catalog, parseCatalog } from "../../src/catalog.ts";
import { type ConnectOptions, MessagingClient } from "../../src/client.ts";
import { parseUri } from "../../src/configuration.ts";
import type { Logger } from "../../src/log.ts";
import type { Message } from "../../src/message.ts";
import { Names } from "../../src/naming.ts";

/** What the broker's tests need to know. */
interface Given {
  /** Of a tenant for each file that runs at once. */
  readonly uris: readonly string[];
  /** Of a tenant whose retries wait in queues, and whose queues hold ten messages. */
  readonly uriOfQueues: string;
  readonly managementUrl: string;
  readonly admin: string;
  readonly postgres: string;
  /** Files of a certificate for 127.0.0.1 and its key. */
  readonly certificate: string;
  readonly key: string;
  readonly catalogs: { readonly native: unknown; readonly queues: unknown };
}

function read(): Given & { readonly uri: string } {
  const file = process.env.KRYONIX_TEST_WORLD;
  if (file === undefined)
    throw new Error("run `scripts/test tests/integration/messaging/test_typescript.py`: it has a broker");
  const found = JSON.parse(readFileSync(file, "utf8")) as Given;
  const worker = Number(process.env.VITEST_POOL_ID ?? "1") - 1;
  return { ...found, uri: found.uris[worker % found.uris.length]! };
}

export const given = read();
export const native: Catalog = parseCatalog(given.catalogs.native);
export const queues: Catalog = parseCatalog(given.catalogs.queues);
export const names = new Names(parseUri(given.uri).tenantId);
export const namesOfQueues = new Names(parseUri(given.uriOfQueues).tenantId);

const open: MessagingClient[] = [];

beforeAll(async () => {
  const found = (await call("GET", "queues", names.vhost)) as { name: string }[];
  await Promise.all(found.map(({ name }) => call("DELETE", "queues", names.vhost, name, "contents")));
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((client) => client.close(0)));
});

/** Notes what is logged, without showing it. */
export class Log implements Logger {
  readonly entries: string[] = [];

  info(text: string): void {
    this.entries.push(text);
  }

  warn(text: string, error?: unknown): void {
    this.entries.push(`${text} ${String(error ?? "")}`);
  }

  error(text: string, error?: unknown): void {
    this.warn(text, error);
  }

  count(part: string): number {
    return this.entries.filter((entry) => entry.includes(part)).length;
  }
}

/** Connect a client that is closed after the test. */
export async function connect(options: ConnectOptions = {}): Promise<MessagingClient> {
  const usual = { amqpUri: given.uri, managementUrl: given.managementUrl, application: "test", catalog: native };
  const client = await MessagingClient.connect({ logger: new Log(), ...usual, ...options });
  open.push(client);
  return client;
}

/** Connect to the tenant whose retries wait in queues. */
export function connectToQueues(options: ConnectOptions = {}): Promise<MessagingClient> {
  return connect({ amqpUri: given.uriOfQueues, catalog: queues, ...options });
}

/** Return the URI of the tenant by another way, or with another password. */
export function uriBy(change: {
  readonly port?: number;
  readonly password?: string;
  readonly scheme?: string;
}): string {
  const { node, password, username, tenantId } = parseUri(given.uri);
  const login = `${username}:${encodeURIComponent(change.password ?? password)}`;
  const vhost = encodeURIComponent(new Names(tenantId).vhost);
  return `${change.scheme ?? "amqp"}://${login}@127.0.0.1:${change.port ?? node.port}/${vhost}`;
}

/** Call the broker's management API as its administrator. */
export async function call(method: string, ...parts: readonly string[]): Promise<unknown> {
  const path = parts.map(encodeURIComponent).join("/");
  const response = await fetch(`${given.managementUrl}/api/${path}`, {
    method,
    headers: { authorization: `Basic ${Buffer.from(given.admin).toString("base64")}` },
  });
  if (!response.ok && response.status !== 404) throw new Error(`${method} ${path}: ${response.status}`);
  return response.status === 200 ? await response.json() : undefined;
}

/** Return the first true result of `look`. Rejects after so many ms. */
export async function eventually<Result>(look: () => Result | Promise<Result>, within = 60_000): Promise<Result> {
  const deadline = performance.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${within} ms: ${look}`);
    await sleep(20);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Messages that a handler has seen. */
export class Seen {
  readonly messages: Message<never>[] = [];

  /** A handler that notes its messages and then does something. */
  readonly handler = (then?: (message: Message<never>) => unknown) => async (message: Message<never>) => {
    this.messages.push(message);
    await then?.(message);
  };

  get ids(): string[] {
    return this.messages.map((message) => message.messageId);
  }

  async wait(count: number): Promise<Message<never>[]> {
    await eventually(() => this.messages.length >= count);
    return this.messages;
  }
}

/** Take the next message out of a queue: its properties as the broker has them. */
export async function taken(queue: string, of: Names = names): Promise<Taken> {
  const body = { count: 1, ackmode: "ack_requeue_false", encoding: "auto" };
  return (await eventually(async () => {
    const response = await fetch(
      `${given.managementUrl}/api/queues/${encodeURIComponent(of.vhost)}/${encodeURIComponent(queue)}/get`,
      {
        method: "POST",
        body: JSON.stringify(body),
        headers: { authorization: `Basic ${Buffer.from(given.admin).toString("base64")}` },
      },
    );
    const [found] = (await response.json()) as Taken[];
    return found;
  })) as Taken;
}

interface Taken {
  readonly payload: string;
  readonly routing_key: string;
  readonly properties: { readonly message_id: string; readonly headers: Record<string, unknown> };
}
