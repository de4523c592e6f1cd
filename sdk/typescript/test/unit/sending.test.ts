import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type AuditRecord,
  CATALOG,
  ConfigurationError,
  type Logger,
  MemoryBroker,
  type MessagingClient,
  NotConnected,
  NotRoutable,
  NotSerializable,
  type Outgoing,
  QueueFull,
  UnknownRoute,
  VERSION,
} from "../../src/index.ts";

const silent: Logger = { info: () => {}, warn: () => {}, error: () => {} };
let broker: MemoryBroker;
let client: MessagingClient;

beforeEach(async () => {
  broker = new MemoryBroker({ modules: ["crm", "whatsapp", "financeiro"], plan: "basic", delay: 0.01 });
  client = await broker.connect({ logger: silent });
});

afterEach(async () => {
  await client.close();
  broker.close();
});

test("a message is stored with its route, headers and properties", async () => {
  const result = await client.crm.send("leads.create", { name: "Ana" }, { headers: { origin: "site" } });
  expect(result).toMatchObject({ exchange: "cliente_memory", routingKey: "crm.leads.create.medium", priority: 5 });
  expect(result.messageId).toMatch(/^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  const [stored] = broker.messages("crm", "leads.create");
  expect(stored?.body.toString()).toBe('{"name":"Ana"}');
  expect(stored).toMatchObject({
    messageId: result.messageId,
    contentType: "application/json",
    appId: "test",
    headers: {
      origin: "site",
      modulo: "crm",
      acao: "leads.create",
      "cliente-id": "memory",
      "mobile-optimized": false,
      "kryonix-sdk-version": VERSION,
    },
  });
});

test("each facade has its module's priority", async () => {
  expect((await client.whatsapp.send("messages.send", {})).priority).toBe(8);
  expect((await client.financeiro.send("faturas.create", {})).priority).toBe(9);
  expect((await client.financeiro.send("faturas.create", {}, { priority: 1 })).priority).toBe(1);
  expect((await client.send("whatsapp", "messages.send", {})).priority).toBe(5);
});

test("a mobile message is compressed, and a small one is not", async () => {
  const large = { text: "x".repeat(2_000) };
  const result = await client.crm.send("leads.create", large, { device: "mobile" });
  const [stored] = broker.messages("crm", "leads.create");
  expect(stored?.contentEncoding).toBe("zstd");
  expect(result).toMatchObject({ mobileOptimized: true, bytes: stored?.body.length });
  await client.crm.send("leads.update", { text: "x" }, { device: "mobile" });
  expect(broker.messages("crm", "leads.update")[0]?.contentEncoding).toBeUndefined();
});

test("the shorter of two times to live counts", async () => {
  const modules = { crm: { ...CATALOG.modules.crm!, mobileExpiry: 60_000 } };
  const own = new MemoryBroker({ catalog: { ...CATALOG, modules } });
  await using sender = await own.connect();
  for (const expires of [undefined, 30.5, 90]) await sender.crm.send("leads.create", {}, { device: "mobile", expires });
  expect(
    own
      .messages("crm", "leads.create")
      .map((each) => each.expiration)
      .sort(),
  ).toEqual([30_500, 60_000, 60_000]);
});

test.each([
  ["an unknown module", () => client.module("crn").send("leads.create", {}), UnknownRoute, "Did you mean 'crm'?"],
  ["an unknown action", () => client.module("crm").send("leads.creat", {}), UnknownRoute, "Did you mean"],
  ["data that is not JSON", () => client.crm.send("leads.create", new Set()), NotSerializable, "the data (Set)"],
  ["a wrong priority", () => client.crm.send("leads.create", {}, { priority: 11 }), ConfigurationError, "priority: 11"],
  ["a wrong timeout", () => client.crm.send("leads.create", {}, { timeout: 0 }), ConfigurationError, "timeout: 0"],
  [
    "an unknown option",
    () => client.crm.send("leads.create", {}, { message_id: "x" } as never),
    ConfigurationError,
    "there is no option 'message_id'. Did you mean 'messageId'?",
  ],
  [
    "an option in place of options",
    () => client.send("crm", "leads.create", {}, 8 as never),
    ConfigurationError,
    "8 is",
  ],
  ["null in place of options", () => client.crm.send("leads.create", {}, null as never), ConfigurationError, "null is"],
  [
    "an unknown option of many",
    () => client.sendMany([], { timout: 1 } as never),
    ConfigurationError,
    "there is no option 'timout'. Did you mean 'timeout'?",
  ],
  ["null in place of options of many", () => client.sendMany([], null as never), ConfigurationError, "null is"],
  [
    "an unknown option of a broadcast",
    () => client.broadcast({}, { priority: 9 } as never),
    ConfigurationError,
    "there is no option 'priority'",
  ],
  [
    "an unknown option of a message",
    () => client.sendMessage({ module: "crm", action: "leads.create", data: {}, priorty: 9 } as never),
    ConfigurationError,
    "there is no option of a message 'priorty'. Did you mean 'priority'?",
  ],
  ["options that throw", () => client.crm.send("leads.create", {}, throwing()), ConfigurationError, "RangeError: no"],
  ["options of many that throw", () => client.sendMany([], throwing()), ConfigurationError, "RangeError: no"],
  ["no message", () => client.sendMessage(undefined as never), ConfigurationError, "message: undefined"],
  [
    "a module not bought",
    () => client.marketing.send("campanhas.enviar", {}),
    NotRoutable,
    "has no queue cliente_memory",
  ],
])("%s is refused", async (_, send, kind, text) => {
  const error = await send().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(kind);
  expect((error as Error).message).toContain(text);
});

function throwing(): { timeout: number } {
  return {
    get timeout(): never {
      throw new RangeError("no");
    },
  };
}

test("options that throw end no batch", async () => {
  const hostile = {
    module: "crm",
    action: "leads.create",
    data: {},
    get headers(): never {
      throw new RangeError("no");
    },
  };
  const good: Outgoing = { module: "crm", action: "leads.create", data: {} };
  const batch = await client.sendMany([good, hostile, good], { window: 2 });
  expect([batch.sent.length, batch.failed.length]).toEqual([2, 1]);
  expect(batch.failed[0]?.[1]).toBeInstanceOf(ConfigurationError);
  expect(batch.failed[0]?.[1].message).toContain("RangeError: no");
  expect(() => batch.throwForFailed()).toThrow(AggregateError);
});

test("a full queue refuses, and says of which message", async () => {
  const messages = Array.from({ length: 1_001 }, (_, n): Outgoing => {
    return { module: "crm", action: "leads.create", data: n, messageId: `m-${n}` };
  });
  const { sent, failed } = await client.sendMany(messages, { window: 100 });
  expect(sent.map((each) => each.messageId)).toEqual(messages.slice(0, 1_000).map((each) => each.messageId));
  expect(failed.map(([message]) => message.messageId)).toEqual(["m-1000"]);
  expect(failed[0]?.[1]).toBeInstanceOf(QueueFull);
  expect(failed[0]?.[1]).toMatchObject({ messageId: "m-1000", remedy: expect.stringContaining("consumers") });
});

test("messages are taken from a generator as they are sent", async () => {
  let [taken, most] = [0, 0];
  const transportBusy = new Set<number>();
  async function* endless() {
    for (let n = 0; n < 50; n++) {
      taken++;
      transportBusy.add(n);
      most = Math.max(most, taken - broker.messages("crm", "contacts.sync").length);
      yield { module: "crm", action: "contacts.sync", data: { n } };
    }
  }
  const batch = await client.sendMany(endless(), { window: 4 });
  expect(batch.sent).toHaveLength(50);
  expect(most).toBeLessThanOrEqual(5);
});

test("messages that fail at once leave other work its turns", async () => {
  let [count, stopped] = [0, false];
  setTimeout(() => {
    stopped = true;
  });
  const endless = function* () {
    for (; !stopped && count < 100_000; count++) yield { module: "crn", action: "leads.create", data: count };
  };
  const { failed } = await client.sendMany(endless());
  expect(failed).toHaveLength(count);
  expect(stopped).toBe(true);
});

test("an iterable that throws is told once the messages in flight are done", async () => {
  function* broken() {
    yield { module: "crm", action: "leads.create", data: 1 };
    throw new RangeError("no more");
  }
  await expect(client.sendMany(broken())).rejects.toThrow("no more");
  expect(broker.messages("crm", "leads.create")).toHaveLength(1);
  await expect(client.sendMany(7 as never)).rejects.toThrow("messages: number is not iterable");
  await expect(client.sendMany([], { window: 0 })).rejects.toThrow("window: 0");
});

test("a broadcast reaches every queue of the modules with AI routing", async () => {
  const result = await client.broadcast({ event: "prices changed" });
  expect(result.exchange).toBe("cliente_memory.automation");
  for (const [module, action] of [
    ["crm", "leads.update"],
    ["financeiro", "faturas.create"],
  ] as const) {
    expect(broker.messages(module, action)).toHaveLength(1);
  }
  expect(broker.messages("crm", "leads.create")[0]?.headers).not.toHaveProperty("modulo");
});

test("a send waits for the broker, and no longer than its timeout", async () => {
  await client.crm.send("leads.create", {});
  broker.goAway();
  expect(client.connected).toBe(false);
  await expect(client.crm.send("leads.create", {}, { timeout: 0.05 })).rejects.toBeInstanceOf(NotConnected);
  const sent = client.crm.send("leads.create", {});
  broker.comeBack();
  await sent;
  expect(broker.messages("crm", "leads.create")).toHaveLength(2);
});

test("a question for an unknown queue has the send's deadline", async () => {
  broker.goAway();
  const error = await client.crm.send("leads.create", {}, { timeout: 0.05 }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(NotConnected);
});

test("a closed client sends nothing, and wakes those who wait", async () => {
  broker.goAway();
  const waiting = client.crm.send("leads.create", {}, { timeout: 60 }).catch((reason: unknown) => reason);
  await pause(1);
  await client.close();
  expect(await waiting).toMatchObject({ name: "NotConnected", problem: "the client is closed" });
  await expect(client.crm.send("leads.create", {})).rejects.toThrow("the client is closed");
  await expect(client.ping()).rejects.toThrow("the client is closed");
  expect(() => client.crm.stream("leads.create")).toThrow("the client is closed");
});

test("a router of one's own chooses the priority", async () => {
  const decision = { exchange: "main", priority: 9, mobileOptimized: false, reason: "angry customer" } as const;
  await using own = await broker.connect({ router: { decide: async () => decision } });
  const result = await own.whatsapp.send("messages.send", { text: "…" });
  expect(result).toMatchObject({ priority: 9, decision: "angry customer", routingKey: "whatsapp.messages.send.high" });
});

test("a catalog of one's own has facades by name", async () => {
  const crm = { ...CATALOG.modules.crm!, defaultPriority: 2 };
  const catalog = { ...CATALOG, modules: { shop: crm } };
  const own = new MemoryBroker({ catalog });
  await using sender = await own.connect();
  expect((await sender.module("shop").send("leads.create", {})).priority).toBe(2);
});

test("each send adds a record with its outcome", async () => {
  const records: AuditRecord[] = [];
  const audit = { write: async (each: readonly AuditRecord[]) => void records.push(...each), close: async () => {} };
  const audited = await broker.connect({ audit, application: "shop" });
  await audited.crm.send("leads.create", {}, { messageId: "m-1" });
  await audited
    .module("crm\n")
    .send("x", {})
    .catch(() => {});
  await audited.marketing.send("campanhas.enviar", {}).catch(() => {});
  await audited.close();
  expect(records.map((each) => each.outcome)).toEqual(["confirmed", "UnknownRoute", "NotRoutable"]);
  expect(records[0]).toMatchObject({ tenant: "memory", application: "shop", messageId: "m-1", bytes: 2 });
  expect(records[1]).toMatchObject({ module: "'crm\\n'", exchange: "" });
  expect(audited.auditDropped).toBe(0);
});

test("a sink that fails delays no send, and lost records are counted", async () => {
  const audit = { write: () => Promise.reject(new Error("disk full")), close: async () => {} };
  const audited = await broker.connect({ audit, logger: silent });
  await audited.crm.send("leads.create", {});
  await audited.close();
  expect(audited.auditDropped).toBe(1);
});

test.each([
  [{ application: "名".repeat(100) }, "at most 100 characters and 255 bytes"],
  [{ compression: "brotli" as never }, "compression: 'brotli' is not one of zstd, gzip"],
  [{ router: class Classifier {} as never }, "router: a class or function is not a router"],
  [{ audit: {} as never }, "audit: Object is not an audit sink (it has no write and no close)"],
  [{ catalog: { modules: {}, retry: { first_delay: "1s" } } as never }, "catalog: Object is not a parsed catalog"],
  [{ prefetch: 0 }, "prefetch: 0 is not a whole number"],
  [{ maxBytes: 2 ** 40 }, "maxBytes"],
  [{ application: "" }, "application: '' is not a valid name"],
])("a wrong option of a client is refused: %#", async (options, text) => {
  await expect(broker.connect(options)).rejects.toThrow(text);
});

test("names of modules and actions are types", async () => {
  // @ts-expect-error: crm has no such action
  await expect(client.crm.send("leads.creat", {})).rejects.toBeInstanceOf(UnknownRoute);
  // @ts-expect-error: that is an action of another module
  await expect(client.send("crm", "messages.send", {})).rejects.toBeInstanceOf(UnknownRoute);
  // @ts-expect-error: there is no such module
  await expect(client.consume("crn", "leads.create", async () => {})).rejects.toBeInstanceOf(UnknownRoute);
});
