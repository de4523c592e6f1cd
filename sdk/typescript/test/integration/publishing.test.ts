/** Sending over a real broker: confirmed, refused, republished. */

import { describe, expect, test } from "vitest";
import { NotConnected, NotRoutable, NotSerializable, QueueFull, SendTimedOut } from "../../src/errors.ts";
import { Way } from "./way.ts";
import { connect, connectToQueues, eventually, Log, names, Seen, sleep, taken, uriBy } from "./world.ts";

describe("a message", () => {
  test("arrives with its data, id, headers and times", async () => {
    const client = await connect();
    const seen = new Seen();
    await client.crm.consume("contacts.sync", seen.handler());
    const headers = {
      text: "é",
      whole: 7,
      big: 2n ** 60n,
      half: 1.5,
      list: [1, null, { at: new Date(1e12) }],
      yes: true,
    };
    const sent = await client.crm.send(
      "contacts.sync",
      { lead: "João ✓" },
      { headers, priority: 7, messageId: "first" },
    );
    const [message] = await seen.wait(1);
    expect(message).toMatchObject({ data: { lead: "João ✓" }, messageId: "first", attempt: 1, application: "test" });
    expect(message!.headers).toMatchObject(headers);
    expect(message!.route).toMatchObject({ exchange: names.exchange, routingKey: sent.routingKey, module: "crm" });
    expect(Date.now() - message!.sentAt!.getTime()).toBeLessThan(60_000);
    expect(Date.now() - message!.receivedAt!.getTime()).toBeLessThan(60_000);
  });

  test("of many frames arrives whole, between small ones", async () => {
    const client = await connect();
    const seen = new Seen();
    const large = Buffer.alloc(3 * 1024 * 1024, "0123456789");
    await client.portal.consume("conteudo.processar", seen.handler());
    const data = ["before", large, "after"];
    await Promise.all(data.map((each) => client.portal.send("conteudo.processar", each)));
    const found = (await seen.wait(3)).map((message) => message.data as unknown);
    expect(found).toContainEqual("before");
    expect(found.some((each) => Buffer.isBuffer(each) && each.equals(large))).toBe(true);
  });
});

describe("the broker's refusal", () => {
  test("of a module that the tenant lacks is NotRoutable", async () => {
    const client = await connect();
    await expect(client.whitelabel.send("temas.processar", {}, { messageId: "lost" })).rejects.toThrow(NotRoutable);
  });

  test("of a message for a full queue is QueueFull, and nothing is stored", async () => {
    const client = await connectToQueues();
    let stored = 0;
    const filling = async () => {
      for (; stored < 200; stored++) await client.portal.send("certificados.gerar", stored);
    };
    await expect(filling()).rejects.toThrow(QueueFull);
    const seen = new Seen();
    await client.portal.consume("certificados.gerar", seen.handler());
    await seen.wait(stored);
    await sleep(200);
    expect(seen.messages.length).toBe(stored);
  });

  test("of headers that are too large sends nothing, and leaves the connection", async () => {
    const log = new Log();
    const client = await connect({ logger: log });
    await client.crm.send("tasks.assign", "before");
    const headers = { large: "x".repeat(140_000) };
    await expect(client.crm.send("tasks.assign", {}, { headers })).rejects.toThrow();
    await client.crm.send("tasks.assign", "after");
    expect(log.count("connection lost")).toBe(0);
    await taken(names.queue("crm", "tasks.assign"));
    await taken(names.queue("crm", "tasks.assign"));
  });

  test("of a message that is too large concerns that one alone", async () => {
    const client = await connect();
    const { exchange, routingKey } = await client.portal.send("videos.encode" as never, {}).catch(() => ({
      exchange: names.exchange,
      routingKey: names.routingKey("portal", "interacoes.track", "medium"),
    }));
    const { AmqpTransport } = await import("../../src/amqp/transport.ts");
    const { findAddress } = await import("../../src/configuration.ts");
    const { envelope } = await import("../../src/message.ts");
    const address = findAddress({ amqpUri: uriBy({}) });
    const transport = new AmqpTransport({ address, name: "large", heartbeat: 60, log: new Log() });
    await transport.open(30);
    const made = (messageId: string, size: number) =>
      envelope({ exchange, routingKey, messageId, body: Buffer.alloc(size, 48) });
    const sizes = [1, 1, 16 * 1024 * 1024 + 1, 1, 1];
    const sends = sizes.map((size, number) => transport.publish(made(`large-${number}`, size), 60));
    const outcomes = await Promise.allSettled(sends);
    await transport.close();
    expect(outcomes.map((outcome) => outcome.status)).toEqual(
      sizes.map((size) => (size === 1 ? "fulfilled" : "rejected")),
    );
    expect((outcomes[2] as PromiseRejectedResult).reason).toBeInstanceOf(NotSerializable);
    const seen = new Seen();
    await client.portal.consume("interacoes.track", seen.handler());
    await eventually(() => [0, 1, 3, 4].every((number) => seen.ids.includes(`large-${number}`)));
  });
});

describe("a broken connection", () => {
  test("costs no message, and repeats it with the same id", async () => {
    await using way = await Way.open();
    const log = new Log();
    const client = await connect({ amqpUri: uriBy({ port: way.port }), logger: log });
    const seen = new Seen();
    const receiver = await connect();
    await receiver.portal.consume("treinamentos.sync", seen.handler());
    let enough = false;
    const sent: string[] = [];
    const work = async () => {
      while (!enough) {
        sent.push((await client.portal.send("treinamentos.sync", sent.length, { timeout: 60 })).messageId);
        await sleep(1);
      }
    };
    const sending = Promise.all(Array.from({ length: 20 }, work));
    for (let times = 0; times < 3; times++) {
      const before = sent.length;
      await eventually(() => sent.length > before + 50);
      way.break();
      await eventually(() => log.count("connected again") > times);
    }
    enough = true;
    await sending;
    await eventually(() => sent.every((id) => seen.ids.includes(id)));
    expect(new Set(seen.ids).size).toBe(new Set(sent).size);
  });

  test("that says nothing ends a send at its deadline, and its outcome is unknown", async () => {
    await using way = await Way.open();
    const client = await connect({ amqpUri: uriBy({ port: way.port }) });
    await client.portal.send("conteudo.processar", "before");
    way.freeze();
    const began = performance.now();
    const sent = client.portal.send("conteudo.processar", "during", { messageId: "again", timeout: 0.5 });
    await expect(sent).rejects.toThrow(/same messageId/);
    await expect(sent).rejects.toMatchObject({ name: SendTimedOut.name, messageId: "again" });
    expect(performance.now() - began).toBeGreaterThan(400);
    expect(performance.now() - began).toBeLessThan(20_000);
    way.thaw();
    await client.portal.send("conteudo.processar", "during", { messageId: "again" });
    const seen = new Seen();
    await client.portal.consume("conteudo.processar", seen.handler());
    await seen.wait(3);
    expect(new Set(seen.messages.map((message) => message.data as unknown))).toEqual(new Set(["before", "during"]));
  });

  test("that does not come back ends every call at its deadline", async () => {
    await using way = await Way.open();
    const client = await connect({ amqpUri: uriBy({ port: way.port }) });
    await client.portal.send("conteudo.processar", "before");
    await way.cut();
    await eventually(() => !client.connected);
    const calls = [
      client.portal.send("conteudo.processar", "lost", { timeout: 0.3 }),
      client.broadcast("lost", { timeout: 0.3 }),
      client.portal.consume("conteudo.processar", () => undefined, { timeout: 0.3 }),
      client.ping(0.3),
      connect({ amqpUri: uriBy({ port: way.port }), timeout: 0.3 }),
    ];
    for (const outcome of await Promise.allSettled(calls)) {
      expect(outcome).toMatchObject({ reason: expect.any(NotConnected) });
    }
    const late = client.portal.send("conteudo.processar", "lost", { timeout: 600 });
    const closed = expect(late).rejects.toThrow(NotConnected);
    await sleep(50);
    await client.close(0);
    await closed;
    await taken(names.queue("portal", "conteudo.processar"));
  });
});
