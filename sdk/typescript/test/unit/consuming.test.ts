import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  ConfigurationError,
  MemoryIdempotency as Idempotency,
  KryonixMessagingSDK,
  type Logger,
  MemoryBroker,
  type MemoryIdempotency,
  type Message,
  type MessagingClient,
  NotConnected,
  Reject,
  Retry,
} from "../../src/index.ts";

const silent: Logger = { info: () => {}, warn: () => {}, error: () => {} };
let broker: MemoryBroker;
let client: MessagingClient;

beforeEach(async () => {
  broker = new MemoryBroker({ modules: ["crm"], delay: 0.01 });
  client = await broker.connect({ logger: silent });
});

afterEach(async () => {
  await client.close(1);
  broker.close();
});

/** Return a promise of so many messages, and the handler that gets them. */
function collect(count: number, then: (message: Message) => void = () => {}) {
  const taken: Message[] = [];
  let done!: (messages: Message[]) => void;
  const all = new Promise<Message[]>((resolve) => {
    done = resolve;
  });
  const handler = async (message: Message) => {
    taken.push(message);
    if (taken.length === count) setImmediate(done, taken);
    then(message);
  };
  return { all, handler };
}

test("a handler gets the message as it was sent", async () => {
  const { all, handler } = collect(1);
  await client.crm.consume("leads.create", handler);
  await client.crm.send("leads.create", { name: "Ana" }, { messageId: "m-1", headers: { a: 1 } });
  const [message] = await all;
  expect(message).toMatchObject({ data: { name: "Ana" }, messageId: "m-1", attempt: 1, application: "test" });
  expect(message?.headers).toMatchObject({ a: 1 });
  expect(message?.route).toMatchObject({ module: "crm", action: "leads.create", exchange: "cliente_memory" });
  expect(message?.receivedAt).toBeInstanceOf(Date);
});

test("a failed message comes back, and is a dead letter after the last attempt", async () => {
  const { all, handler } = collect(4, () => {
    throw new Error("no");
  });
  const consumer = await client.crm.consume("leads.create", handler);
  await client.crm.send("leads.create", {});
  expect((await all).map((message) => message.attempt)).toEqual([1, 2, 3, 4]);
  await consumer.stop();
  expect(broker.deadLetters("crm", "leads.create")).toHaveLength(1);
});

test("a rejected message is a dead letter with its reason", async () => {
  const { all, handler } = collect(1, () => {
    throw new Reject("no data");
  });
  const consumer = await client.crm.consume("leads.create", handler);
  await client.crm.send("leads.create", {});
  await all;
  await consumer.stop();
  expect(broker.deadLetters("crm", "leads.create")[0]?.headers).toMatchObject({ "kryonix-reason": "no data" });
  expect(consumer.rejected).toBe(1);
});

test("a stream ends with its loop", async () => {
  await client.crm.send("leads.create", 1);
  await client.crm.send("leads.create", 2);
  const taken: unknown[] = [];
  for await (const item of client.crm.stream("leads.create")) {
    await item.handle(async (message) => void taken.push(message.data));
    if (taken.length === 2) break;
  }
  expect(taken).toEqual([1, 2]);
  expect(broker.messages("crm", "leads.create")).toEqual([]);
});

test("a model that answers with a promise makes a dead letter, and no rejection is left", async () => {
  const model = (_: unknown) => Promise.reject(new Error("no"));
  await client.crm.consume("leads.create", async () => {}, { model });
  await client.crm.send("leads.create", {});
  await vi.waitFor(() => expect(broker.deadLetters("crm", "leads.create")).toHaveLength(1));
  expect(broker.deadLetters("crm", "leads.create")[0]?.headers["kryonix-reason"]).toContain("model is asynchronous");
});

test("a store need not be asynchronous, and a wrong answer of one is logged", async () => {
  const own = { claim: () => "mine", done: () => undefined, release: () => undefined, close: () => undefined };
  const entries: string[] = [];
  const logger: Logger = { ...silent, error: (text, error) => entries.push(`${text}: ${error}`) };
  const other = await broker.connect({ logger, idempotency: own as never });
  const { all, handler } = collect(1);
  await other.crm.consume("leads.create", handler);
  await other.crm.send("leads.create", 1);
  expect(await all).toHaveLength(1);
  await vi.waitFor(() => expect(broker.messages("crm", "leads.create")).toEqual([]));
  own.claim = () => "yes";
  await other.crm.send("leads.create", 2);
  await vi.waitFor(() => expect(entries[0]).toContain("claim answered 'yes', not 'mine', 'done' or 'busy'"));
  await other.close();
});

test("only the first ending of an item counts", async () => {
  const store = new Idempotency();
  const other = await broker.connect({ logger: silent, idempotency: store });
  await other.crm.send("leads.create", {}, { messageId: "m-1" });
  for await (const item of other.crm.stream("leads.create")) {
    await item.handle(() => item.reject("no")); // the end of a handler is an ending too
    break;
  }
  expect(broker.deadLetters("crm", "leads.create")).toHaveLength(1);
  expect(await store.claim("cliente_memory.crm.leads.create:m-1", 60)).toBe("mine"); // once it is redriven
  await other.close();
});

test("a stream that is closed hands out no message", async () => {
  let [claiming, claim] = [() => {}, () => {}];
  const asked = new Promise<void>((resolve) => {
    claiming = resolve;
  });
  const answered = new Promise<void>((resolve) => {
    claim = resolve;
  });
  const store = new Idempotency();
  const slow = Object.assign(store, {
    claim: async () => {
      claiming();
      await answered;
      return "mine" as const;
    },
  });
  const other = await broker.connect({ logger: silent, idempotency: slow });
  await other.crm.send("leads.create", {});
  const stream = other.crm.stream("leads.create");
  const next = stream.next();
  await asked;
  const closing = stream.close();
  claim();
  expect(await next).toMatchObject({ done: true });
  await closing;
  await vi.waitFor(() => expect(broker.messages("crm", "leads.create")).toHaveLength(1));
  await other.close();
});

test("data that does not fit the model is a dead letter at once", async () => {
  const model = (data: unknown) => {
    if (typeof (data as { name?: unknown }).name !== "string") throw new TypeError("name: expected text");
    return data as { name: string };
  };
  const { all, handler } = collect(1);
  const consumer = await client.crm.consume(
    "leads.create",
    async (message: Message<{ name: string }>) => {
      await handler(message);
    },
    { model },
  );
  await client.crm.send("leads.create", { name: 7 });
  await client.crm.send("leads.create", { name: "Ana" });
  expect((await all)[0]?.data).toEqual({ name: "Ana" });
  await consumer.stop();
  const [dead] = broker.deadLetters("crm", "leads.create");
  expect(dead?.headers["kryonix-reason"]).toContain("name: expected text");
});

test("a schema of a validation library is a model", async () => {
  const schema = {
    "~standard": {
      validate: (value: unknown) =>
        typeof value === "number"
          ? { value: value * 2 }
          : { issues: [{ message: "expected a number", path: ["a", 0] }] },
    },
  };
  const { all, handler } = collect(1);
  const consumer = await client.crm.consume<number>("leads.create", handler as never, { model: schema });
  await client.crm.send("leads.create", "x");
  await client.crm.send("leads.create", 21);
  expect((await all)[0]?.data).toBe(42);
  await consumer.stop();
  expect(broker.deadLetters("crm", "leads.create")[0]?.headers["kryonix-reason"]).toContain("a[0]: expected a number");
  await expect(client.crm.consume("leads.create", handler, { model: 7 as never })).rejects.toThrow("model: number");
});

test("a message with the id of a handled one is not handled again", async () => {
  const idempotency: MemoryIdempotency = new Idempotency();
  const once = await broker.connect({ idempotency });
  const { all, handler } = collect(2);
  const consumer = await once.crm.consume("leads.create", handler, { concurrency: 1 });
  for (const messageId of ["m-1", "m-1", "m-2"]) await once.crm.send("leads.create", {}, { messageId });
  expect((await all).map((message) => message.messageId)).toEqual(["m-1", "m-2"]);
  expect(consumer.duplicates).toBe(1);
  await once.close();
});

test("close lets handlers finish, and gives back the rest", async () => {
  let [began, finish] = [() => {}, () => {}];
  const begun = new Promise<void>((resolve) => {
    began = resolve;
  });
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  await client.crm.consume(
    "leads.create",
    async () => {
      began();
      await finished;
    },
    { concurrency: 1 },
  );
  await client.crm.send("leads.create", 1);
  await client.crm.send("leads.create", 2);
  await begun;
  const closing = client.close();
  finish();
  await closing;
  const next = await broker.connect();
  for await (const item of next.crm.stream("leads.create")) {
    expect(item.message.data).toBe(2);
    await item.done();
    break;
  }
  await next.close();
});

test("run ends with a signal, once handlers have finished", async () => {
  const { all, handler } = collect(1);
  await client.crm.consume("leads.create", async (message: Message) => {
    await handler(message);
    process.emit("SIGTERM");
    process.emit("SIGINT");
  });
  const running = client.run();
  await client.crm.send("leads.create", {});
  await running;
  expect(await all).toHaveLength(1);
  expect(broker.messages("crm", "leads.create")).toEqual([]);
  expect(client.connected).toBe(false);
});

test("run ends with the client", async () => {
  const running = client.run();
  await client.close();
  await running;
  expect(process.listenerCount("SIGTERM")).toBe(0);
});

test("every call of run ends with the client", async () => {
  const running = [client.run(), client.run()];
  process.emit("SIGTERM");
  await Promise.all(running);
  expect(process.listenerCount("SIGTERM")).toBe(0);
});

const unreadable = () =>
  new Proxy(new Error("hidden"), {
    get: () => {
      throw new Error("it can't be read");
    },
    getPrototypeOf: () => {
      throw new Error("it can't be read");
    },
  });

test.each([
  ["text", () => Promise.reject("no")],
  ["nothing", () => Promise.reject(undefined)],
  ["a symbol", () => Promise.reject(Symbol("no"))],
  ["an object without a text", () => Promise.reject(Object.create(null))],
  ["an error that can't be read", () => Promise.reject(unreadable())],
  [
    "a promise that can't be waited for",
    () => ({
      // biome-ignore lint/suspicious/noThenProperty: somebody's promise
      then: () => {
        throw new Error("no");
      },
    }),
  ],
])("a handler that fails with %s fails as any other", async (_what, handler) => {
  const consumer = await client.crm.consume("leads.create", handler);
  await client.crm.send("leads.create", {});
  await vi.waitFor(() => expect(broker.deadLetters("crm", "leads.create")).toHaveLength(1));
  expect(consumer).toMatchObject({ retried: 4, inProgress: 0 });
});

test.each([
  [
    "throws",
    () => {
      throw new Error("disk full");
    },
  ],
  ["rejects", async () => Promise.reject(new Error("disk full"))],
])("a logger that %s costs no message", async (_what, fails) => {
  const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    const noisy = await broker.connect({ logger: { info: fails, warn: fails, error: fails } });
    const consumer = await noisy.crm.consume("leads.create", () => {
      throw new Error("no");
    });
    await noisy.crm.send("leads.create", {});
    await vi.waitFor(() => expect(broker.deadLetters("crm", "leads.create")).toHaveLength(1));
    expect(consumer.inProgress).toBe(0);
    await noisy.close();
    expect(written).toHaveBeenCalledWith("error kryonix.messaging: the logger failed: Error: disk full\n");
  } finally {
    written.mockRestore();
  }
});

test("a store that never closes does not keep the client open", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const store = Object.assign(new Idempotency(), { close: () => new Promise<void>(() => {}) });
    const other = await broker.connect({ logger: silent, idempotency: store });
    const closing = other.close();
    await vi.advanceTimersByTimeAsync(6_000);
    await closing;
  } finally {
    vi.useRealTimers();
  }
});

test.each([
  [() => client.crm.consume("leads.create", 7 as never), "handler: number is not a function"],
  [() => client.crm.consume("leads.create", async function* each() {}), "handler: each is a generator"],
  [
    () => client.crm.consume("leads.create", async () => {}, { model: async (data: unknown) => data }),
    "model: a class or an async function cannot validate data",
  ],
  [() => client.crm.consume("leads.create", async () => {}, { handlerTimeout: 86_401 }), "handlerTimeout 86,401 s"],
  [() => client.crm.consume("leads.create", async () => {}, { concurrency: 0 }), "concurrency: 0"],
  [
    () => client.crm.consume("leads.create", async () => {}, { handler_timeout: 5 } as never),
    "there is no option 'handler_timeout'. Did you mean 'handlerTimeout'?",
  ],
])("a wrong consumer is refused: %#", async (consume, text) => {
  await expect(consume()).rejects.toThrow(ConfigurationError);
  await expect(consume()).rejects.toThrow(text);
});

test("the source document's callback answers for its message", async () => {
  const sdk = new KryonixMessagingSDK("memory", {
    amqpUri: "amqp://kryonix_memory:x@127.0.0.1:1/%2Fcliente_memory",
    logger: silent,
    timeout: 0.1,
  });
  expect(() => sdk.client).toThrow("the SDK is not initialized");
  await expect(sdk.initialize()).rejects.toBeInstanceOf(NotConnected);
  await sdk.close();
  Object.defineProperty(sdk, "client", { value: client });
  const seen: string[] = [];
  const consumer = await sdk.consumeMessages("crm", "leads.create", async (content, { attempt, clienteId }) => {
    seen.push(`${clienteId} ${content} ${attempt}`);
    if (content === "bad") return { success: false, error: "broken" };
    return attempt === 1 ? { success: false, retry: true } : { success: true };
  });
  const result = await sdk.sendCRMMessage("leads.create", "good");
  expect(result).toMatchObject({ success: true, priority: 5 });
  await sdk.sendCRMMessage("leads.create", "bad");
  await expect.poll(() => seen).toEqual(expect.arrayContaining(["memory good 1", "memory bad 1", "memory good 2"]));
  await consumer.stop();
  expect(broker.deadLetters("crm", "leads.create")[0]?.headers["kryonix-reason"]).toBe("broken");
  const stats = await sdk.getQueueStats("crm");
  expect(stats.find((each) => each.name.endsWith("leads.create.dlq"))?.messages).toBe(1);
});

test("a login has a place in the source document's constructor", async () => {
  const login = { username: "kryonix_acme", password: "p/w", vhost: "/cliente_acme", hostname: "127.0.0.1", port: 1 };
  const other = new KryonixMessagingSDK("other", login);
  await expect(other.initialize()).rejects.toThrow("tenant 'other' is not the one of the AMQP URI, 'acme'");
  for (const wrong of [null, { ...login, password: undefined }, { ...login, port: "1" }, { ...login, prefetch: 1 }]) {
    expect(() => new KryonixMessagingSDK("acme", wrong as never)).toThrow(ConfigurationError);
  }
  expect(() => new KryonixMessagingSDK("")).toThrow(ConfigurationError);
  expect(new Retry("later").message).toBe("later");
});
