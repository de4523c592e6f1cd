/** Consuming from a real broker: retries, dead letters, duplicates, and stopping without loss. */

import { describe, expect, test } from "vitest";
import { ConfigurationError, NotRoutable, Reject, Retry } from "../../src/errors.ts";
import { type IdempotencyStore, MemoryIdempotency, PostgresIdempotency } from "../../src/idempotency.ts";
import { Way } from "./way.ts";
import {
  call,
  connect,
  connectToQueues,
  eventually,
  given,
  Log,
  names,
  namesOfQueues,
  Seen,
  sleep,
  taken,
  uriBy,
} from "./world.ts";

const BOTH = [
  ["by the broker", connect, names],
  ["by queues", connectToQueues, namesOfQueues],
] as const;

describe.each(BOTH)("a failed message, retried %s", (_, connected, of) => {
  test("comes back with its attempt, and is a dead letter after the last", async () => {
    const client = await connected();
    const [seen, began] = [new Seen(), performance.now()];
    const consumer = await client.portal.consume(
      "interacoes.track",
      seen.handler(() => {
        throw new Error("no");
      }),
    );
    await client.portal.send("interacoes.track", {}, { messageId: "failing" });
    await eventually(() => consumer.retried === 3);
    expect(seen.messages.map((message) => message.attempt)).toEqual([1, 2, 3]);
    expect(performance.now() - began).toBeGreaterThan(1_500); // after a second each
    expect(new Set(seen.messages.map((message) => message.route.routingKey)).size).toBe(1);
    const dead = await taken(of.deadLetterQueue("portal", "interacoes.track"), of);
    expect(dead.properties.message_id).toBe("failing");
  });

  test("that is rejected is a dead letter at once, with the reason", async () => {
    const client = await connected();
    const consumer = await client.portal.consume("interacoes.track", () => {
      throw new Reject("because");
    });
    await client.portal.send("interacoes.track", {}, { messageId: "rejected" });
    await eventually(() => consumer.rejected === 1);
    const dead = await taken(of.deadLetterQueue("portal", "interacoes.track"), of);
    expect(dead.properties).toMatchObject({
      message_id: "rejected",
      headers: {
        "kryonix-reason": "because",
        "kryonix-attempts": 1,
        "kryonix-exchange": of.exchange,
        "kryonix-routing-key": of.routingKey("portal", "interacoes.track", "medium"),
      },
    });
  });

  test("that asks for a retry is handled by the next attempt", async () => {
    const client = await connected();
    const seen = new Seen();
    const consumer = await client.portal.consume(
      "interacoes.track",
      seen.handler((message) => {
        if (message.attempt === 1) throw new Retry();
      }),
    );
    await client.portal.send("interacoes.track", {});
    await eventually(() => consumer.handled === 1);
    expect(consumer.retried).toBe(1);
  });
});

describe("a handler", () => {
  test("that takes too long fails, and its place is free", async () => {
    const client = await connect();
    const seen = new Seen();
    const options = { concurrency: 1, handlerTimeout: 0.2 };
    const consumer = await client.crm.consume(
      "leads.create",
      seen.handler((message) => {
        return message.attempt === 1 && message.messageId === "slow" ? sleep(60_000) : undefined;
      }),
      options,
    );
    await client.crm.send("leads.create", {}, { messageId: "slow" });
    await client.crm.send("leads.create", {}, { messageId: "next" });
    await eventually(() => consumer.handled === 2);
    expect(consumer.retried).toBe(1);
    expect(seen.ids).toEqual(["slow", "next", "slow"]);
  });

  test("runs for so many messages at a time", async () => {
    const client = await connect();
    let [now, most] = [0, 0];
    const seen = new Seen();
    const work = seen.handler(async () => {
      most = Math.max(most, ++now);
      await sleep(20);
      now--;
    });
    await client.sendMany(Array.from({ length: 30 }, () => ({ module: "crm", action: "leads.create", data: {} })));
    const consumer = await client.crm.consume("leads.create", work, { concurrency: 4 });
    await eventually(() => consumer.handled === 30);
    expect(most).toBe(4);
  });

  test("gets urgent messages of a lane first", async () => {
    const client = await connect();
    for (let number = 0; number < 10; number++) await client.crm.send("leads.update", number, { priority: 5 });
    await client.crm.send("leads.update", "urgent", { priority: 9 });
    const seen = new Seen();
    await client.crm.consume(
      "leads.update",
      seen.handler(() => sleep(20)),
      { concurrency: 1, prefetch: 20 },
    );
    await seen.wait(11);
    const place = seen.messages.findIndex((message) => (message.data as unknown) === "urgent");
    expect(place).toBeLessThan(2);
  });

  test("of a body that is not JSON is spared it: it is a dead letter with the reason", async () => {
    const client = await connect();
    const seen = new Seen();
    const consumer = await client.crm.consume("tasks.assign", seen.handler());
    await post("{not json", { message_id: "foreign" });
    await eventually(() => consumer.undecodable === 1);
    const dead = await taken(names.deadLetterQueue("crm", "tasks.assign"));
    expect(String(dead.properties.headers["kryonix-reason"])).toMatch(/^undecodable: the body is not JSON/);
    expect(seen.messages).toEqual([]);
  });

  test("is asked for the time that the broker allows it", async () => {
    const client = await connect({ application: "patient" });
    await client.crm.consume("leads.qualify", () => undefined, { handlerTimeout: 3600, concurrency: 1, prefetch: 200 });
    const mine = await eventually(async () => {
      const found = (await call("GET", "consumers", names.vhost)) as Consuming[];
      return found.find((each) => each.queue.name === names.queue("crm", "leads.qualify"));
    });
    expect(mine?.prefetch_count).toBe(119);
    expect(mine?.arguments).toEqual({ "x-consumer-timeout": 119 * 3_630_000 });
  });
});

interface Consuming {
  readonly queue: { readonly name: string };
  readonly arguments: object;
  readonly prefetch_count: number;
}

async function post(payload: string, properties: object): Promise<void> {
  const routing_key = names.routingKey("crm", "tasks.assign", "medium");
  await fetch(`${given.managementUrl}/api/exchanges/${encodeURIComponent(names.vhost)}/${names.exchange}/publish`, {
    method: "POST",
    body: JSON.stringify({ properties, routing_key, payload, payload_encoding: "string" }),
    headers: { authorization: `Basic ${Buffer.from(given.admin).toString("base64")}` },
  });
}

describe("a message handled before", () => {
  const stores: [string, () => IdempotencyStore][] = [
    ["memory", () => new MemoryIdempotency()],
    ["PostgreSQL", () => new PostgresIdempotency(given.postgres, `handled_${Date.now()}`)],
  ];

  test.each(stores)("is skipped, as %s knows", async (kind, store) => {
    const client = await connect({ idempotency: store() });
    const seen = new Seen();
    const consumer = await client.crm.consume("leads.create", seen.handler());
    for (const messageId of [`one-${kind}`, `one-${kind}`, `é\\-${kind}`])
      await client.crm.send("leads.create", {}, { messageId });
    await eventually(() => consumer.handled + consumer.duplicates === 3);
    expect(consumer.duplicates).toBe(1);
  });

  test("is not handled again when its channel is lost meanwhile", async () => {
    await using way = await Way.open();
    const log = new Log();
    const client = await connect({ amqpUri: uriBy({ port: way.port }), logger: log });
    const seen = new Seen();
    const consumer = await client.crm.consume(
      "leads.create",
      seen.handler(() => sleep(1_500)),
    );
    const sender = await connect();
    await sender.crm.send("leads.create", {}, { messageId: "in hand" });
    await seen.wait(1);
    way.break();
    await eventually(() => log.count("it is not handled twice") === 1);
    await eventually(() => consumer.handled === 1);
    await eventually(async () => {
      const queue = (await call("GET", "queues", names.vhost, names.queue("crm", "leads.create"))) as {
        messages?: number;
      };
      return queue.messages === 0;
    });
    expect(seen.messages.length).toBe(1);
    expect(log.count("subscribed again")).toBe(1);
  });
});

describe("stopping", () => {
  test("lets handlers finish, and gives the rest back unharmed", async () => {
    const client = await connect();
    const count = 50;
    await client.sendMany(
      Array.from({ length: count }, (_, n) => ({ module: "crm", action: "leads.create", data: n })),
    );
    const seen = new Seen();
    const consumer = await client.crm.consume(
      "leads.create",
      seen.handler(() => sleep(50)),
      { concurrency: 5 },
    );
    await seen.wait(5);
    await client.close();
    expect(consumer.handled).toBe(seen.messages.length);
    expect(consumer.handled).toBeLessThan(count);
    const other = await connect();
    const rest = new Seen();
    await other.crm.consume("leads.create", rest.handler());
    await rest.wait(count - consumer.handled);
    await sleep(100);
    const all = [...seen.messages, ...rest.messages].map((message) => message.data as number);
    expect(all.sort((one, two) => one - two)).toEqual(Array.from({ length: count }, (_, n) => n));
    expect(new Set(rest.messages.map((message) => message.attempt))).toEqual(new Set([1]));
  });

  test("gives back what a handler does not finish in time", async () => {
    const client = await connect();
    const seen = new Seen();
    const consumer = await client.crm.consume(
      "leads.create",
      seen.handler(() => sleep(600_000)),
      { handlerTimeout: null },
    );
    await client.crm.send("leads.create", {}, { messageId: "late" });
    await seen.wait(1);
    await consumer.stop(0.1);
    expect(consumer.stopped).toBe(true);
    const again = new Seen();
    await client.crm.consume("leads.create", again.handler());
    const [message] = await again.wait(1);
    expect(message).toMatchObject({ messageId: "late", attempt: 1 });
  });
});

describe("a stream", () => {
  test("gives messages one by one, and back what it has not handled", async () => {
    const client = await connect();
    for (let number = 0; number < 5; number++) await client.crm.send("leads.create", number);
    const seen: unknown[] = [];
    for await (const item of client.crm.stream("leads.create")) {
      await item.handle((message) => seen.push(message.data));
      if (seen.length === 3) break;
    }
    expect(seen).toEqual([0, 1, 2]);
    const rest = new Seen();
    await client.crm.consume("leads.create", rest.handler());
    await rest.wait(2);
    expect(rest.messages.map((message) => message.data as unknown)).toEqual([3, 4]);
  });

  test("retries and rejects as a handler does", async () => {
    const client = await connect();
    await client.crm.send("leads.create", "first", { messageId: "streamed" });
    let attempts = 0;
    for await (const item of client.crm.stream("leads.create")) {
      await item.handle(() => {
        throw ++attempts === 1 ? new Retry() : new Reject("enough");
      });
      if (attempts === 2) break;
    }
    const dead = await taken(names.deadLetterQueue("crm", "leads.create"));
    expect(dead.properties).toMatchObject({ message_id: "streamed", headers: { "kryonix-reason": "enough" } });
  });
});

test("a queue that is not there is NotRoutable", async () => {
  const client = await connect();
  await expect(client.whitelabel.consume("temas.processar", () => undefined)).rejects.toThrow(NotRoutable);
});

test("a consumer that the broker cancels subscribes again", async () => {
  const client = await connect({ application: "cancelled" });
  const [seen, log] = [new Seen(), new Log()];
  const other = await connect({ logger: log });
  await other.crm.consume("contacts.sync", seen.handler());
  await eventually(() => cutConnections("test"));
  await eventually(() => log.count("subscribed again") > 0);
  await client.crm.send("contacts.sync", "after");
  await seen.wait(1);
});

/** Close the connections of an application, as an operator does. Return their number. */
async function cutConnections(application: string): Promise<number> {
  const found = (await call("GET", "connections")) as { name: string; user_provided_name?: string }[];
  const mine = found.filter((each) => each.user_provided_name === `${names.tenantId}/${application}`);
  for (const { name } of mine) await call("DELETE", "connections", name);
  return mine.length;
}

test("an invalid option is refused before anything is consumed", async () => {
  const client = await connect();
  await expect(client.crm.consume("leads.create", () => undefined, { concurrency: 0 })).rejects.toThrow(
    ConfigurationError,
  );
});
