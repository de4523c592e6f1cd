/** The client's connections, over sockets to a server that can be held up. */

import { inspect } from "node:util";
import { afterEach, expect, test, vi } from "vitest";
import { MAX_TIMER_MS, pause, within } from "../../src/amqp/waiting.ts";
import {
  AccessRefused,
  ConfigurationError,
  type ConnectOptions,
  type Logger,
  MessagingClient,
  PostgresIdempotency,
} from "../../src/index.ts";
import { FakeBroker } from "../support/broker.ts";

const silent: Logger = { info: () => {}, warn: () => {}, error: () => {} };
vi.setConfig({ testTimeout: 30_000 }); // each takes a second on an idle machine
const LONG_S = 3_000_000; // beyond the longest timer
const clients: MessagingClient[] = [];

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close(0)));
});

async function connected(broker: FakeBroker, options: ConnectOptions = {}): Promise<MessagingClient> {
  const client = await MessagingClient.connect({ amqpUri: broker.uri, application: "a", logger: silent, ...options });
  clients.push(client);
  return client;
}

function eventually(look: () => unknown): Promise<unknown> {
  return vi.waitFor(() => expect(look()).toBeTruthy(), { timeout: 10_000, interval: 5 });
}

test("close leaves no connection behind that was being opened", async () => {
  await using broker = await FakeBroker.open();
  const client = await connected(broker);
  await client.crm.consume("leads.create", () => {});
  broker.holds = (method) => method === "ConnectionOpen";
  const sending = expect(client.crm.send("leads.create", 1)).rejects.toThrow("the client is closed");
  await eventually(() => broker.count("ConnectionOpen") === 2);
  await client.close(0);
  await sending;
  await eventually(() => broker.connections === 0);
});

test("close does not wait for a connection that is lost", async () => {
  await using broker = await FakeBroker.open();
  const client = await connected(broker);
  await client.crm.consume("leads.create", () => {});
  const next = client.crm.stream("leads.update").next();
  await eventually(() => broker.count("BasicConsume") === 2);
  const waiting = client.crm.stream("leads.update", { timeout: 60 });
  broker.cut();
  await eventually(() => !client.connected);
  const opening = waiting.next();
  await pause(300); // until the consumer waits for a connection
  const began = performance.now();
  await client.close(20);
  expect(performance.now() - began).toBeLessThan(4_000);
  expect(await next).toMatchObject({ done: true });
  expect(await opening).toMatchObject({ done: true });
});

test("what waits for a broker is bounded, also once its senders have given up", async () => {
  await using broker = await FakeBroker.open();
  const client = await connected(broker);
  await client.crm.send("leads.create", 1, { timeout: 0.2 }).catch(() => undefined); // nothing is confirmed
  broker.freeze();
  const body = Buffer.alloc(8 * 1024 * 1024);
  for (let round = 0; round < 4; round++) {
    const sending = Array.from({ length: 6 }, () => client.crm.send("leads.create", body, { timeout: 0.1 }));
    const ended = await Promise.allSettled(sending);
    expect(ended.every((each) => each.status === "rejected")).toBe(true);
  }
  broker.thaw();
  const last = client.crm.send("leads.create", "last", { timeout: 10 }).catch(() => undefined);
  await eventually(() => broker.bodies.includes('"last"'));
  expect(broker.count("BasicPublish")).toBeLessThan(14); // 64 MB and what the sockets hold, of 192 MB
  await client.close(0);
  await last;
});

test("a time beyond the longest timer is waited for", async () => {
  const never = new Promise<never>(() => {});
  const outcome = Promise.race([
    within(never, MAX_TIMER_MS * 2).catch(() => "over"),
    pause(MAX_TIMER_MS * 2).then(() => "over"),
    pause(50).then(() => "waiting"),
  ]);
  expect(await outcome).toBe("waiting");
  await using broker = await FakeBroker.open();
  const client = await connected(broker, { timeout: LONG_S });
  await client.crm.consume("leads.create", () => {}, { timeout: LONG_S });
  await client.ping(LONG_S);
});

test("a node is not left for what this process was too busy to read", async () => {
  await using first = await FakeBroker.open();
  await using second = await FakeBroker.open();
  const entries: string[] = [];
  const logger: Logger = { ...silent, warn: (text) => entries.push(text) };
  const addresses = [`127.0.0.1:${second.port}`];
  const client = await connected(first, { addresses, logger });
  const sending = client.crm.send("leads.create", 1, { timeout: 60 }).catch(() => undefined);
  await eventually(() => first.count("BasicPublish") + second.count("BasicPublish") > 0);
  await pause(700); // until the link has looked at what is due
  const accepted = first.accepted + second.accepted;
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + 20_000);
  try {
    await eventually(() => first.accepted + second.accepted > accepted); // asks whether the node is alive
    expect(entries).toEqual([]);
  } finally {
    clock.mockRestore();
  }
  await client.close(0);
  await sending;
});

test("a subscription that can't be renewed is told once", async () => {
  await using broker = await FakeBroker.open();
  const entries: string[] = [];
  const client = await connected(broker, { logger: { ...silent, warn: (text) => entries.push(text) } });
  await client.crm.consume("leads.create", () => {});
  broker.refuses = (method) => (method === "BasicConsume" ? [404, "NOT_FOUND"] : undefined);
  broker.break();
  await eventually(() => broker.count("BasicConsume") === 4);
  const about = (part: string) => entries.filter((entry) => entry.includes(part));
  expect(about("subscription lost")).toHaveLength(1);
  expect(about("not subscribed yet")).toHaveLength(1);
  broker.refuses = () => undefined;
  await eventually(() => about("subscribed again").length === 1);
});

test("a send to a new route says why there is no connection", async () => {
  await using broker = await FakeBroker.open();
  const client = await connected(broker);
  broker.refuses = (method) => (method === "ConnectionStartOk" ? [403, "ACCESS_REFUSED"] : undefined);
  broker.break();
  await eventually(() => broker.count("ConnectionStartOk") === 2);
  await expect(client.crm.send("leads.create", 1, { timeout: 0.2 })).rejects.toThrow(AccessRefused);
});

test("a confirmation that has come in time counts, however busy the process was", async () => {
  await using broker = await FakeBroker.open();
  broker.confirmed = () => undefined;
  const client = await connected(broker);
  await client.crm.send("leads.create", 1);
  broker.confirmed = () => {
    const until = performance.now() + 400;
    while (performance.now() < until); // the confirmation is in the socket
  };
  await client.crm.send("leads.create", 2, { timeout: 0.3 });
});

test("a store that can't have a database is refused before the first message", async () => {
  await using broker = await FakeBroker.open();
  const idempotency = new PostgresIdempotency("postgresql://user:hidden@host:port/shop");
  const error = await connected(broker, { idempotency }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConfigurationError);
  expect(inspect(error, { depth: 9 })).not.toContain("hidden");
  expect(broker.accepted).toBe(0);
});
