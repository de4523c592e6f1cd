/** The shared vectors: what every SDK does, whatever its language. */

import zlib from "node:zlib";
import { expect, test } from "vitest";
import { readProperties } from "../../src/amqp/properties.ts";
import { parseCatalog } from "../../src/catalog.ts";
import { MessagingClient } from "../../src/client.ts";
import { findAddress } from "../../src/configuration.ts";
import { MessagingError } from "../../src/errors.ts";
import { type Claim, MemoryIdempotency } from "../../src/idempotency.ts";
import { Decider } from "../../src/learned/decider.ts";
import { Guard } from "../../src/learned/guard.ts";
import { Draw, draw } from "../../src/learned/known.ts";
import { ModelRefused, readModel } from "../../src/learned/model.ts";
import { LearnedRouter } from "../../src/learned/router.ts";
import { Shapes } from "../../src/learned/shapes.ts";
import { type Envelope, envelope, type SendResult } from "../../src/message.ts";
import { Names, type Priority, tenantOfVhost } from "../../src/naming.ts";
import type { Deliver, Delivery, Subscription, Transport } from "../../src/transport.ts";
import {
  check,
  type Fields,
  givenPath,
  mutations,
  readGiven,
  readVectors,
  type Vector,
  value,
} from "../support/vectors.ts";

const ALL = readVectors();
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

type Answer = Record<string, unknown>;

/** A store that keeps the last key. */
class Claims extends MemoryIdempotency {
  claimed: string | null = null;

  override async claim(key: string, lease: number): Promise<Claim> {
    if (!key.endsWith(":after")) this.claimed = key;
    return await super.claim(key, lease);
  }
}

/** A transport that has every queue, and keeps what is published. */
class Tape implements Transport {
  readonly connected = true;
  readonly server = undefined;
  readonly published: Envelope[] = [];
  readonly claims = new Claims();
  deliver: Deliver | undefined;

  async publish(sent: Envelope): Promise<void> {
    this.published.push(sent);
  }

  async hasQueue(): Promise<boolean> {
    return true;
  }

  async subscribe(_queues: readonly string[], _prefetch: number, deliver: Deliver): Promise<Subscription> {
    this.deliver = deliver;
    return { cancel: async () => undefined, close: async () => undefined };
  }

  async queues() {
    return [];
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {}
}

/** A delivery that keeps its answer. */
class Delivered implements Delivery {
  readonly lost = false;
  readonly envelope: Envelope;
  readonly queue: string;
  answer = "";

  constructor(received: Envelope, queue: string) {
    this.envelope = received;
    this.queue = queue;
  }

  begin(): void {}

  async ack(): Promise<void> {
    this.answer = "ack";
  }

  async reject(options: { readonly requeue: boolean }): Promise<void> {
    this.answer = options.requeue ? "requeue" : "reject";
  }

  async giveBack(): Promise<void> {
    this.answer = "give back";
  }
}

async function clientOf(tape: Tape, given: Fields): Promise<MessagingClient> {
  const {
    catalog,
    compression,
    max_bytes: maxBytes,
    model,
    mode,
    canary,
  } = (given.client ?? {}) as Fields & {
    [name: string]: never;
  };
  const router = model === undefined ? undefined : new LearnedRouter(givenPath(model), { mode, canary });
  await router?.refresh();
  return new MessagingClient(tape, tenantOf(given), {
    application: "vectors",
    logger: SILENT,
    router,
    ...((given.client as Fields | undefined)?.idempotency ? { idempotency: tape.claims } : {}),
    ...(catalog === undefined ? {} : { catalog: parseCatalog(JSON.parse(readGiven(catalog).toString())) }),
    ...(compression === undefined ? {} : { compression }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
}

function tenantOf(given: Fields): string {
  return (given.tenant ?? "acme") as string;
}

async function send(given: Fields): Promise<Answer> {
  const tape = new Tape();
  const client = await clientOf(tape, given);
  const options: Record<string, unknown> = {};
  for (const [name, mine] of Object.entries(OPTIONS)) if (name in given) options[mine] = value(given[name]!);
  const [module, action, data] = [given.module as never, given.action as never, value(given.data!)];
  try {
    let sent: Promise<SendResult>;
    if (!("action" in given)) sent = client.broadcast(data, options);
    else if (given.facade) sent = client.module(module).send(action, data, options);
    else sent = client.send(module, action, data, options);
    const result = await sent;
    const [published] = tape.published as [Envelope];
    return { published: tape.published.length, ...wire(published), ...bodyOf(published), ...snake(result) };
  } catch (error) {
    if (!(error instanceof MessagingError)) throw error;
    const { name, problem, remedy, messageId = null, message: text } = error;
    return { published: tape.published.length, error: { class: name, problem, remedy, message_id: messageId, text } };
  } finally {
    await client.close();
  }
}

/** Options of a send by their names in vectors. */
const OPTIONS = {
  priority: "priority",
  device: "device",
  message_id: "messageId",
  expires: "expires",
  headers: "headers",
} as const;

function snake(fields: object): Answer {
  const renamed = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(fields).map(([name, each]) => [renamed(name), each ?? null]));
}

/** Return an envelope by the names in vectors. */
function wire(sent: Envelope): Answer {
  const { type, ...others } = snake(sent);
  return { ...others, message_type: type };
}

function bodyOf(sent: Envelope): Answer {
  const text = sent.body.toString();
  if (sent.contentType !== "application/json") return { text };
  const inflate = { zstd: zlib.zstdDecompressSync, gzip: zlib.gunzipSync }[sent.contentEncoding ?? ""];
  return { text, data: JSON.parse(String(inflate === undefined ? sent.body : inflate(sent.body))) };
}

function receive(given: Fields): Promise<Answer> {
  const names = new Names(tenantOf(given));
  const text = (name: string) => value(given[name] ?? null) ?? undefined;
  const body = value(given.body!);
  const received = envelope({
    exchange: (text("exchange") ?? names.exchange) as string,
    routingKey: (value(given.routing_key ?? "crm.leads.create.medium") ?? "") as string,
    body: typeof body === "string" ? Buffer.from(body) : (body as Buffer),
    messageId: (text("message_id") ?? "") as string,
    headers: (text("headers") ?? {}) as Envelope["headers"],
    priority: (text("priority") ?? 0) as number,
    contentType: text("content_type") as string | undefined,
    contentEncoding: text("content_encoding") as string | undefined,
    expiration: text("expiration") as number | undefined,
    timestamp: text("timestamp") as Date | undefined,
    appId: text("app_id") as string | undefined,
    correlationId: text("correlation_id") as string | undefined,
    replyTo: text("reply_to") as string | undefined,
    type: text("message_type") as string | undefined,
    received: true,
  });
  return handled(given, received);
}

/** Answer as `receive`, from the bytes of a content header's frame: properties follow the class, weight and size. */
async function delivered(given: Fields): Promise<Answer> {
  const frame = value(given.frame!) as Buffer;
  const properties = readProperties(frame, 12, frame.length);
  const { exchange, routing_key: routingKey, redelivered } = given as Record<string, string>;
  const body = value(given.body!) as Buffer;
  const received = envelope({ exchange: exchange!, routingKey: routingKey!, body, received: true, ...properties });
  return { ...(await handled(given, received)), ...wire(received), redelivered };
}

/** Hand an envelope to a consumer, and answer what its handler got, and what became of the message. */
async function handled(given: Fields, received: Envelope): Promise<Answer> {
  const tape = new Tape();
  const client = await clientOf(tape, given);
  const { module = "crm", action = "leads.create" } = given as Record<string, string>;
  const queue = (given.queue ?? new Names(tenantOf(given)).queue(module, action)) as string;
  const stream = client.module(module).stream(action);
  const mine = new Delivered(received, queue);
  const body = Buffer.from("0");
  const after = new Delivered(envelope({ exchange: "", routingKey: "", body, messageId: "after" }), queue);
  await stream.open();
  tape.deliver?.(mine);
  tape.deliver?.(after);
  const { value: item } = await stream.next();
  const { message } = item!;
  const isMine = message.messageId !== "after";
  if (isMine && given.handler === "reject") await item!.reject(value(given.reason!) as string);
  else if (isMine && given.handler === "retry") await item!.retry();
  else await item!.done();
  await client.close();
  const [copy] = tape.published;
  return {
    ...(isMine ? { ...snake(message), route: snake(message.route) } : {}),
    answer: mine.answer,
    claimed: tape.claims.claimed,
    ...(copy === undefined ? {} : { moved: wire(copy), reason: copy.headers["kryonix-reason"] ?? null }),
  };
}

async function addressOf(given: Fields): Promise<Answer> {
  try {
    const options = { amqpUri: given.uri as string, addresses: given.addresses as string[] | undefined };
    const address = findAddress(options, {});
    const { scheme, username, tenantId, external } = address;
    const nodes = address.nodes.map(({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`);
    return { scheme, nodes, username, password: address.password(), tenant: tenantId, external };
  } catch (error) {
    if (!(error instanceof MessagingError)) throw error;
    return { error: { class: error.name, problem: error.problem, text: error.message } };
  }
}

async function namesOf(given: Fields): Promise<Answer> {
  const { tenant, module, action, priority, attempt, generation = 1 } = given as Record<string, string>;
  const names = new Names(tenant!);
  const answer: Answer = { vhost: names.vhost, exchange: names.exchange, unrouted: names.unrouted };
  answer.user = names.userOf(Number(generation));
  answer.stats_user = names.statsUserOf(Number(generation));
  answer.mobile_exchange = names.mobileExchange;
  answer.critical_exchange = names.criticalExchange;
  answer.automation_exchange = names.automationExchange;
  if (module === undefined || action === undefined) return answer;
  const queue = names.queue(module, action);
  answer.queue = queue;
  answer.dead_letter_exchange = names.deadLetterExchange(module);
  answer.dead_letter_queue = names.deadLetterQueue(module, action);
  answer.dead_letter_key = names.deadLetterKey(module, action);
  answer.mobile_key = names.mobileKey(module, action);
  answer.critical_key = names.criticalKey(module, action);
  if (priority !== undefined) {
    answer.lane = names.lane(module, action, priority as Priority);
    answer.routing_key = names.routingKey(module, action, priority as Priority);
  }
  if (attempt !== undefined) {
    answer.retry_queue = names.retryQueue(queue, Number(attempt));
    answer.retry_key = names.retryKey(queue, Number(attempt));
  }
  return answer;
}

const DRAWN: Readonly<Record<string, number>> = { explore: Draw.EXPLORES, follow: Draw.FOLLOWS, notes: Draw.NOTES };

async function drawn(given: Record<string, string>): Promise<Answer> {
  return { draw: draw(given.message_id!, DRAWN[given.for!]!) };
}

async function shaped(given: Fields): Promise<Answer> {
  return { shape: new Shapes(given.key as string).of(value(given.data!)) };
}

async function decide(given: Fields): Promise<Answer> {
  const model = readModel(readGiven("model.json"), "model.json");
  const { action, at, share = 1 } = given as { action: string; at: string; share?: number };
  const decider = new Decider(model.actions.get(action)!, model.explore, model.version);
  decider.decideOnly(share);
  const { message_id = "m-1", bytes = 1_000, device = "unknown", shape = "", priority = 5 } = given as never;
  const { who, rules, propensity, prediction, version, ...chosen } = decider.choose({
    module: action.slice(0, action.indexOf(".")),
    action: action.slice(action.indexOf(".") + 1),
    at: new Date(at).getTime() / 1000,
    messageId: message_id,
    bytes,
    device,
    shape,
    priority: priority ?? undefined,
    expiresMs: given.expires_ms as number | undefined,
  });
  const { time, left, saving = null, compresses } = prediction;
  const answer = { decided_by: who, rules, propensity, time, left, saving, compresses, version };
  return who === "rules" ? answer : { ...answer, priority: chosen.priority, reason: chosen.reason };
}

async function watch(given: Fields): Promise<Answer> {
  const { usual, errors } = readModel(readGiven("model.json"), "model.json").actions.get(given.action as string)!;
  const guard = new Guard(usual, errors);
  for (const { decided, stated, became, missed, by_rules: byRules, times } of given.events as never[]) {
    for (let time = 0; time < times; time++) {
      if (decided !== undefined)
        guard.decided(Object.assign({ shape: "", priority: 5, expiresMs: undefined }, decided));
      else if (stated !== undefined) guard.stated(stated);
      else guard.became(became ?? undefined, missed ?? undefined, byRules);
    }
  }
  return { problem: guard.problem ?? null, drifts: guard.drifts };
}

async function modelOf(given: Fields): Promise<Answer> {
  const content = value(given.content!) as string | Buffer;
  try {
    const { version, explore, actions } = readModel(Buffer.from(content), "model.json");
    return { version, explore, actions: [...actions.keys()].sort() };
  } catch (error) {
    if (!(error instanceof ModelRefused)) throw error;
    return { refused: error.message };
  }
}

/** What an SDK does with each kind of what is given. */
const KINDS: Readonly<Record<string, (given: never) => Promise<Answer>>> = {
  send,
  receive,
  delivered,
  address: addressOf,
  names: namesOf,
  vhost: async (given: string) => ({ tenant: tenantOfVhost(given) ?? null }),
  draw: drawn,
  shape: shaped,
  decide,
  model: modelOf,
  watch,
};

const answers = new Map<Vector, Promise<Answer>>();

function answered(vector: Vector): Promise<Answer> {
  const [kind, given] = Object.entries(vector.given)[0] as [string, never];
  const answer = answers.get(vector) ?? KINDS[kind]!(given);
  answers.set(vector, answer);
  return answer;
}

test("there are three hundred vectors, and no two have one name", () => {
  expect(ALL.length).toBeGreaterThanOrEqual(300);
  expect(new Set(ALL.map((vector) => vector.name)).size).toBe(ALL.length);
});

test.each(ALL.map((vector) => [vector.name, vector] as const))("%s", async (_name, vector) => {
  const answer = await answered(vector);
  check(vector.expect, answer);
  const changed = mutations(vector.expect) as Fields[];
  expect(changed.length).toBeGreaterThan(1);
  for (const other of changed) expect(() => check(other, answer)).toThrow();
});
