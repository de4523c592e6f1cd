import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import {
  LearnedRouter,
  type LearnedRouterOptions,
  type Logger,
  MemoryBroker,
  type MessagingClient,
} from "../../src/index.ts";

const MODEL = join(import.meta.dirname, "../../../../vectors/given/model.json");
const VERSION = JSON.parse(readFileSync(MODEL, "utf8")).hash.slice(0, 12);
const ACTION = "crm.leads.create";
const folder = mkdtempSync(join(tmpdir(), "kryonix-"));
afterAll(() => rmSync(folder, { recursive: true }));

const said: string[] = [];
const logger: Logger = { info: () => {}, warn: (text) => void said.push(text), error: () => {} };
let broker: MemoryBroker;
const clients: MessagingClient[] = [];

beforeEach(() => {
  said.length = 0;
  broker = new MemoryBroker({ modules: ["crm"] });
});

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  broker.close();
});

async function connect(router: LearnedRouter): Promise<MessagingClient> {
  const client = await broker.connect({ router, logger });
  clients.push(client);
  return client;
}

async function routed(options: LearnedRouterOptions, model = MODEL) {
  const router = new LearnedRouter(model, options);
  return { router, client: await connect(router) };
}

/** Return a model's file with changed fields, and a right hash. */
function altered(change: (fields: Record<string, never>) => void): string {
  const { hash: _, ...fields } = JSON.parse(readFileSync(MODEL, "utf8"));
  change(fields);
  const rest = `${JSON.stringify(fields).slice(1)}\n`;
  const path = join(folder, `${Math.random()}.json`);
  writeFileSync(path, `{"hash":"${createHash("sha256").update(rest).digest("hex")}",${rest}`);
  return path;
}

test("a model that is on decides all but the explored share", async () => {
  const { router, client } = await routed({ mode: "on" });
  const results = [];
  for (let n = 0; n < 200; n++) results.push(await client.crm.send("leads.create", { n }, { messageId: `m-${n}` }));
  const { decisions, version } = router.status();
  expect(version).toBe(VERSION);
  expect(decisions[ACTION]?.learned).toBeGreaterThan(170);
  expect(decisions[ACTION]?.explored).toBeGreaterThan(2);
  expect(results.some((result) => /^learned: priority \d+, (earlier|later) for /.test(result.decision))).toBe(true);
});

test("a shadow decides, and the rules are obeyed", async () => {
  const { router, client } = await routed({});
  const result = await client.crm.send("leads.create", {}, { priority: 3 });
  expect(result).toMatchObject({ priority: 3, decision: "main: nothing asks for another exchange" });
  expect(router.status()).toMatchObject({ mode: "shadow", decisions: { [ACTION]: { rules: 1 } } });
});

test("a canary decides its share of the messages", async () => {
  const { router, client } = await routed({ mode: "canary", canary: 50 });
  for (let n = 0; n < 200; n++) await client.crm.send("leads.create", {}, { messageId: `m-${n}` });
  const { rules = 0, learned = 0, explored = 0 } = router.status().decisions[ACTION] ?? {};
  expect(rules).toBeGreaterThan(70);
  expect(rules).toBeLessThan(130);
  expect(rules + learned + explored).toBe(200);
});

test("a stated expiry, or a high priority, never gets less than the rules give", async () => {
  const { client } = await routed({ mode: "on" });
  for (let n = 0; n < 50; n++) {
    expect((await client.crm.send("leads.create", {}, { expires: 20 })).priority).toBeGreaterThanOrEqual(8);
    expect((await client.crm.send("leads.create", {}, { priority: 9 })).priority).toBeGreaterThanOrEqual(9);
  }
});

test("the rules decide an action whose messages have changed", async () => {
  const fallbacks: string[] = [];
  const { router, client } = await routed({
    mode: "on",
    onFallback: (action, why) => void fallbacks.push(`${action} ${why}`),
  });
  const messages = Array.from({ length: 1_000 }, () => ({
    module: "crm",
    action: "leads.create",
    data: {},
    device: "web" as const,
  }));
  const { sent } = await client.sendMany(messages);
  expect(sent).toHaveLength(1_000);
  expect(fallbacks).toHaveLength(1);
  expect(router.status().problem[ACTION]).toMatch(/^(device|bytes) is spread differently: stability index/);
  expect((await client.crm.send("leads.create", {})).decision).toMatch(/^main/);
  expect(said.at(-1)).toContain(`back to the rules from model ${VERSION}`);
});

test("predictions that are wrong end a model's use", async () => {
  const { router, client } = await routed({ mode: "on" });
  for (let n = 0; n < 200; n++) await client.crm.send("leads.create", {}, { expires: 30_000_000 });
  expect(router.status().problem[ACTION]).toContain("the error of predicted times left has doubled");
});

test("handling times that are wrong end a model's use", async () => {
  const { router, client } = await routed({ mode: "on" });
  // It expects half a second and more.
  const consumer = await client.crm.consume("leads.create", () => {});
  const messages = Array.from({ length: 250 }, () => ({ module: "crm", action: "leads.create", data: {} }));
  await client.sendMany(messages, { window: 50 });
  await expect.poll(() => consumer.handled).toBe(250);
  expect(router.status().problem[ACTION]).toContain("the error of predicted handling times has doubled");
});

test("a message that is not sent has no outcome", async () => {
  const { router, client } = await routed({ mode: "on" });
  await client.crm.consume("leads.create", () => {});
  broker.goAway();
  for (let n = 0; n < 3; n++) await client.crm.send("leads.create", {}, { expires: 1, timeout: 0.001 }).catch(() => {});
  broker.comeBack();
  await client.crm.send("leads.create", {});
  expect(router.status().problem).toEqual({});
});

/** Return the path of a pipe that nobody writes to. */
function piped(): string {
  const path = join(folder, "pipe.json");
  execFileSync("mkfifo", [path]);
  return path;
}

test.each([
  ["is missing", () => join(folder, "none.json"), "there is no model"],
  ["is a pipe", () => piped(), "a pipe is not a file"],
  ["has been altered", () => join(import.meta.dirname, "../../package.json"), "not a routing model"],
  [
    "has another format",
    () => altered((fields) => Object.assign(fields, { format: 2 })),
    "the model has format 2, this version reads 1",
  ],
])("a model that %s is not used", async (_, path, problem) => {
  const { router, client } = await routed({ mode: "on" }, path());
  expect((await client.crm.send("leads.create", {})).decision).toMatch(/^main/);
  expect(router.status().unusable).toContain(problem);
  expect(said).toHaveLength(1);
});

test("another version takes over, and one that cannot be used gives way to the rules", async () => {
  const path = altered(() => {});
  const { router } = await routed({ mode: "on" }, path);
  const first = router.status().version;
  writeFileSync(path, readFileSync(altered((fields) => Object.assign(fields, { messages: 1 }))));
  await router.refresh();
  expect(router.status().version).not.toBe(first);
  writeFileSync(path, "{}");
  await router.refresh();
  expect(router.status()).toMatchObject({
    version: undefined,
    unusable: expect.stringContaining("not a routing model"),
  });
});

test("a model in use stays while its server can't be reached", async () => {
  let status = 200;
  const server = createServer(({ url }, response) => {
    response.writeHead(url === "/other" ? 200 : status, { location: "/other" }).end(readFileSync(MODEL));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const { router } = await routed({ mode: "on" }, `http://user:secret@127.0.0.1:${port}/model.json`);
    expect(router.status()).toMatchObject({ version: VERSION, source: `http://127.0.0.1:${port}/model.json` });
    status = 503;
    await router.refresh();
    expect(router.status()).toMatchObject({
      version: VERSION,
      unusable: expect.stringContaining("it answers 503"),
    });
    status = 302;
    await router.refresh();
    expect(router.status()).toMatchObject({ unusable: expect.stringContaining("it answers 302") });
    status = 404;
    await router.refresh();
    expect(router.status().version).toBeUndefined();
    expect(said.join()).not.toContain("secret");
  } finally {
    server.close();
  }
});

test("a router is of one tenant", async () => {
  const { router } = await routed({});
  const other = new MemoryBroker({ tenant: "other" });
  await expect(other.connect({ router })).rejects.toThrow("it decides the messages of the tenant memory");
});

test("a router of one's own may ask this one", async () => {
  const { router } = await routed({ mode: "on" });
  expect(router.decide({ module: "crm", action: "leads.create", data: {}, messageId: "m-1" }).reason).toContain(
    "learned",
  );
});

test.each([
  [{ mode: "live" as never }, "mode: 'live' is not one of off, shadow, canary, on"],
  [{ canary: 101 }, "canary: 101 is not a share"],
  [{ refresh: 0 }, "refresh: 0"],
])("a wrong option is refused: %#", (options, text) => {
  expect(() => new LearnedRouter(MODEL, options)).toThrow(text);
  expect(() => new LearnedRouter("ftp://host/model")).toThrow("an address ftp:// can't be read");
  expect(() => new LearnedRouter("https://u%zz:p@host/model")).toThrow("it is not a valid address");
});
