/** Connecting: deadlines, refusals, certificates, several nodes, and figures. */

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { describe, expect, test } from "vitest";
import { AmqpTransport } from "../../src/amqp/transport.ts";
import { MessagingClient } from "../../src/client.ts";
import { findAddress } from "../../src/configuration.ts";
import { AccessRefused, NotConnected, StatsUnavailable } from "../../src/errors.ts";
import { Way } from "./way.ts";
import { call, connect, eventually, given, Log, names, native, Seen, sleep, uriBy } from "./world.ts";

async function connections(application: string): Promise<{ timeout?: number }[]> {
  const found = (await call("GET", "connections")) as { user_provided_name?: string; timeout?: number }[];
  return found.filter((each) => each.user_provided_name === `${names.tenantId}/${application}`);
}

test("sending and consuming use one connection each, with a name and a heartbeat", async () => {
  const client = await connect({ application: "two" });
  const seen = new Seen();
  await client.portal.consume("treinamentos.sync", seen.handler());
  await client.portal.send("treinamentos.sync", {});
  await seen.wait(1);
  const found = await eventually(async () => {
    const mine = await connections("two");
    return mine.length === 2 && mine.every((each) => each.timeout !== undefined) && mine;
  });
  expect((found as { timeout?: number }[]).map((each) => each.timeout)).toEqual([60, 60]);
  await client.ping();
  await client.close();
  await eventually(async () => (await connections("two")).length === 0);
});

describe("connecting", () => {
  test("with a wrong password is refused at once, and never shows it", async () => {
    const began = performance.now();
    const refused = connect({ amqpUri: uriBy({ password: "not-the-password" }), timeout: 30 });
    await expect(refused).rejects.toThrow(/Check user, password and vhost/);
    await expect(refused).rejects.toBeInstanceOf(AccessRefused);
    await expect(refused).rejects.not.toThrow(/not-the-password/);
    expect(performance.now() - began).toBeLessThan(25_000);
  });

  test("to another tenant's vhost is refused, with the broker's reason", async () => {
    const uri = uriBy({}).replace(/%2F.*$/, "%2Fcliente_acme");
    await expect(connect({ amqpUri: uri })).rejects.toThrow(/does not let kryonix_node.* in: .*vhost/);
  });

  test("to a missing broker waits until the deadline", async () => {
    const way = await Way.open();
    await way.cut();
    const began = performance.now();
    await expect(connect({ amqpUri: uriBy({ port: way.port }), timeout: 0.5 })).rejects.toThrow(/127\.0\.0\.1/);
    expect(performance.now() - began).toBeGreaterThan(400);
    expect(performance.now() - began).toBeLessThan(20_000);
  });

  test("to a silent server waits until the deadline", async () => {
    const server: Server = createServer(() => undefined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await expect(connect({ amqpUri: uriBy({ port }), timeout: 0.5 })).rejects.toThrow(NotConnected);
    server.close();
  });

  test("without TLS to a port that has it says so", async () => {
    // As RabbitMQ answers there: a fatal alert, of an unsupported version.
    const server: Server = createServer((socket) => socket.write(Buffer.from([0x15, 3, 3, 0, 2, 2, 0x46])));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await expect(connect({ amqpUri: uriBy({ port }) })).rejects.toThrow(/Write amqps:/);
    server.close();
  });

  test("with TLS trusts only the CA, and says which port has none", async () => {
    const secure = { cert: readFileSync(given.certificate), key: readFileSync(given.key) };
    await using way = await Way.open(secure);
    const amqpUri = uriBy({ port: way.port, scheme: "amqps" });
    await expect(connect({ amqpUri })).rejects.toThrow(/certificate/);
    const client = await connect({ amqpUri, caFile: given.certificate });
    const seen = new Seen();
    await client.portal.consume("treinamentos.sync", seen.handler());
    await client.portal.send("treinamentos.sync", "encrypted");
    await seen.wait(1);
    const { port } = new URL(given.uri);
    await expect(connect({ amqpUri: uriBy({ scheme: "amqps", port: Number(port) }) })).rejects.toThrow(/has no TLS/);
  });
});

test("a connection without an answer is replaced after missed heartbeats", async () => {
  await using way = await Way.open();
  const client = await connect({ amqpUri: uriBy({ port: way.port }), heartbeat: 1 });
  const seen = new Seen();
  await client.portal.consume("conteudo.processar", seen.handler());
  await client.portal.send("conteudo.processar", 1);
  await seen.wait(1);
  way.freeze();
  await eventually(() => !client.connected);
  way.thaw();
  await client.portal.send("conteudo.processar", 2, { timeout: 30 });
  await eventually(() => seen.messages.some((message) => (message.data as unknown) === 2));
});

describe("figures", () => {
  test("name each queue of the tenant", async () => {
    const client = await connect();
    const stats = await eventually(async () => {
      const found = await client.queueStats("crm");
      return found.length > 0 && found;
    });
    const kinds = new Set((stats as { kind: string }[]).map((queue) => queue.kind));
    expect(kinds).toEqual(new Set(["action", "lane", "dead-letter"]));
  });

  test("that cannot be read are an error, without the password", async () => {
    for (const managementUrl of ["http://127.0.0.1:9", undefined]) {
      const client = await connect({ managementUrl });
      await expect(client.queueStats()).rejects.toThrow(StatsUnavailable);
    }
    const amqpUri = uriBy({ password: "not-the-password" });
    const address = findAddress({ amqpUri, managementUrl: given.managementUrl });
    const transport = new AmqpTransport({ address, name: "x", heartbeat: 60, log: new Log() });
    await expect(transport.queues(30)).rejects.toThrow(/refuses kryonix_node.*\.stats/);
    await expect(transport.queues(30)).rejects.not.toThrow(/not-the-password/);
  });
});

/** A client of three ways to the broker, which sends and handles all the time. */
class Traffic {
  readonly log = new Log();
  readonly seen = new Map<number, number>();
  readonly sent: number[] = [];
  longestGap = 0;
  client!: MessagingClient;
  transport!: AmqpTransport;
  #enough = false;
  #sending: Promise<void> | undefined;

  static async over(ways: readonly Way[]): Promise<Traffic> {
    const made = new Traffic();
    const address = findAddress({
      amqpUri: uriBy({ port: ways[0]!.port }),
      addresses: ways.map((way) => way.address),
    });
    const { log } = made;
    made.transport = new AmqpTransport({ address, name: "node/nodes", heartbeat: 10, log, awayMs: 500 });
    made.client = new MessagingClient(made.transport, address.tenantId, {
      application: "nodes",
      catalog: native,
      logger: log,
    });
    await made.transport.open(10);
    await made.client.portal.consume("interacoes.track", (message) => {
      const number = message.data as number;
      made.seen.set(number, (made.seen.get(number) ?? 0) + 1);
    });
    made.#sending = made.#send();
    await made.goesOn();
    return made;
  }

  async #send(): Promise<void> {
    let last = performance.now();
    for (let number = 0; !this.#enough; number++) {
      await this.client.portal.send("interacoes.track", number, { timeout: 120 });
      this.longestGap = Math.max(this.longestGap, performance.now() - last);
      this.sent.push(number);
      last = performance.now();
      await sleep(10);
    }
  }

  async goesOn(messages = 20): Promise<void> {
    const goal = this.sent.length + messages;
    await eventually(() => this.sent.length >= goal && this.seen.size >= goal);
  }

  /** Stop, and prove that every message has arrived. */
  async end(): Promise<void> {
    this.#enough = true;
    await this.#sending;
    await eventually(() => this.sent.every((number) => this.seen.has(number)));
    await this.client.close();
  }
}

async function three(): Promise<Way[]> {
  return await Promise.all([Way.open(), Way.open(), Way.open()]);
}

describe("of several nodes", () => {
  test("one that is killed is left at once", async () => {
    const ways = await three();
    const traffic = await Traffic.over(ways);
    const used = ways.filter((way) => way.connections > 0);
    await used[0]!.cut();
    await traffic.goesOn();
    expect(traffic.longestGap).toBeLessThan(3_000);
    await traffic.end();
    for (const way of ways) await way[Symbol.asyncDispose]();
  });

  test("one that freezes is left within ten seconds", async () => {
    const ways = await three();
    const traffic = await Traffic.over(ways);
    const at = new Set(traffic.transport.nodes.map(({ now }) => now.port));
    const frozen = ways.filter((way) => at.has(way.port));
    frozen[0]!.freeze();
    await traffic.goesOn(40);
    await eventually(() => traffic.log.count("answers no new connection") > 0);
    expect(traffic.longestGap).toBeLessThan(10_000);
    await traffic.end();
    for (const way of ways) await way[Symbol.asyncDispose]();
  });

  test("the own one is used again once it is back, and nothing is cut off", async () => {
    const ways = await three();
    const traffic = await Traffic.over(ways);
    const homes = new Set(traffic.transport.nodes.map(({ home }) => home.port));
    const mine = ways.filter((way) => homes.has(way.port));
    for (const way of mine) await way.cut();
    await eventually(() => traffic.log.count("connected again") === 2);
    await eventually(() => traffic.log.count("subscribed again") >= 1);
    await traffic.goesOn();
    const [lost, before] = [traffic.log.count("connection lost"), traffic.sent.length];
    for (const way of mine) await way.open();
    await eventually(() => traffic.transport.nodes.every(({ home, now }) => home === now));
    await eventually(() => ways.reduce((sum, way) => sum + way.connections, 0) === 2);
    await traffic.goesOn();
    expect(traffic.log.count("connection lost")).toBe(lost);
    const times = [...traffic.seen].filter(([number]) => number > before).map(([, count]) => count);
    expect(new Set(times)).toEqual(new Set([1]));
    await traffic.end();
    for (const way of ways) await way[Symbol.asyncDispose]();
  });
});
