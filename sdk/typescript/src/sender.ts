/** From data to a confirmed message: check, encode, route, publish, audit. */

import { setImmediate as turn } from "node:timers/promises";
import type { AuditRecord } from "./audit.ts";
import type { Catalog } from "./catalog.ts";
import {
  checkedCount,
  checkedSeconds,
  checkNames,
  checkOptions,
  checkRoute,
  milliseconds,
  shown,
  thrown,
  typeName,
} from "./checks.ts";
import { type Compression, compress, MIN_COMPRESSED } from "./compression.ts";
import { encode } from "./encoding.ts";
import { ConfigurationError, MessagingError, NotRoutable } from "./errors.ts";
import { newId } from "./ids.ts";
import type { Choice } from "./learned/decider.ts";
import type { LearnedRouter } from "./learned/router.ts";
import { type Envelope, isPrintable, type Outgoing, type SendResult } from "./message.ts";
import type { Names } from "./naming.ts";
import { type Place, Places } from "./places.ts";
import type { Reach } from "./reach.ts";
import { type SafeRouter, USUAL_PRIORITY } from "./routing.ts";
import { type Operation, sending } from "./tracing.ts";
import type { Transport } from "./transport.ts";
import type { Writer } from "./writer.ts";

/** The names of a message's options. */
const OUTGOING: ReadonlySet<string> = new Set(
  Object.keys({
    module: true,
    action: true,
    data: true,
    priority: true,
    device: true,
    messageId: true,
    expires: true,
    headers: true,
  } satisfies Record<keyof Outgoing, true>),
);
/** Messages in flight. */
const MAX_WINDOW = 10_000;

/** The outcome of `sendMany`. Both lists are in the order of the input. */
export class Batch {
  readonly sent: readonly SendResult[];
  /** Messages without confirmation, with the error of each. */
  readonly failed: readonly (readonly [Outgoing, MessagingError])[];

  constructor(sent: readonly SendResult[], failed: readonly (readonly [Outgoing, MessagingError])[]) {
    this.sent = sent;
    this.failed = failed;
  }

  /** Throw an AggregateError with all errors, if there are any. */
  throwForFailed(): void {
    if (this.failed.length === 0) return;
    const errors = this.failed.map(([, error]) => error);
    throw new AggregateError(errors, `${errors.length} messages were not sent: ${errors[0]!.message}`);
  }
}

/** What a sender is made of. */
export interface SenderParts {
  readonly transport: Transport;
  readonly names: Names;
  readonly catalog: Catalog;
  readonly application: string;
  readonly router: SafeRouter;
  /** Instead of the router's own choice: it decides without waiting. */
  readonly learned: LearnedRouter | undefined;
  readonly compression: Compression | null;
  readonly auditor: Writer<AuditRecord> | undefined;
  readonly maxBytes: number;
  readonly reach: Reach;
}

/** Send the messages of one client. */
export class Sender {
  readonly #parts: SenderParts;
  readonly #places: Places;
  /** Where the messages of a model's choice go, if they state no expiry. */
  readonly #chosen = new WeakMap<Choice, Place>();

  constructor(parts: SenderParts) {
    this.#parts = parts;
    this.#places = new Places(parts.names, parts.catalog);
  }

  /** Send and wait for the broker's confirmation. `timeout` is in seconds. */
  async send(message: Outgoing, timeout: number): Promise<SendResult> {
    const started = performance.now();
    checkedSeconds("timeout", timeout);
    const envelope = this.#encoded(message, started, true);
    const { learned } = this.#parts;
    const choice = learned?.choose(message, envelope.messageId, envelope.body.length);
    const place = this.#usual(message, choice) ?? (await this.#decided(message, timeout));
    this.#compress(envelope, place, choice);
    // The shorter of the caller's time and, for mobile, the catalog's.
    envelope.expiration = place.expiry;
    if (message.expires !== undefined) {
      const own = milliseconds(message.expires, envelope.messageId);
      envelope.expiration = place.expiry === undefined ? own : Math.min(own, place.expiry);
    }
    try {
      return await this.#publish(message, envelope, place, timeout, started);
    } catch (error) {
      learned?.forget(message, envelope.messageId);
      throw error;
    }
  }

  /** Publish to every queue of the modules with AI routing. */
  async broadcast(data: unknown, messageId: string | undefined, timeout: number): Promise<SendResult> {
    const started = performance.now();
    checkedSeconds("timeout", timeout);
    const message: Outgoing = { module: "automation", action: "broadcast", data, messageId };
    const envelope = this.#encoded(message, started, false);
    return await this.#publish(message, envelope, this.#places.broadcast(USUAL_PRIORITY), timeout, started);
  }

  /** Return the place of a message without a wait; undefined if another router has to be asked. */
  #usual(message: Outgoing, choice: Choice | undefined): Place | undefined {
    const { router } = this.#parts;
    if (router.isReplaced) return undefined;
    if (choice !== undefined && choice.who !== "rules") return this.#placeOf(message, choice);
    if (message.expires !== undefined) return this.#places.make(message, router.rules.decide(message));
    const { priority = USUAL_PRIORITY } = message;
    const [known, mobile] = [this.#places.of(message.module, message.action)!, message.device === "mobile"];
    let place = known.get(priority, mobile);
    if (place === undefined) {
      place = this.#places.make(message, router.rules.decide(message));
      known.set(priority, mobile, place);
    }
    return place;
  }

  /** Return where a model's choice goes: worked out once for all messages that get the same choice. */
  #placeOf(message: Outgoing, choice: Choice): Place {
    let place = this.#chosen.get(choice);
    if (place === undefined) {
      const { rules } = this.#parts.router;
      place = this.#places.make(message, rules.place(message, choice.priority, choice.reason));
      this.#chosen.set(choice, place);
    }
    return place;
  }

  /** Compress a message to a mobile device, unless a model that is obeyed expects no saving. */
  #compress(envelope: Envelope, { decision }: Place, choice: Choice | undefined): void {
    const { compression } = this.#parts;
    if (!decision.mobileOptimized || compression === null || envelope.body.length < MIN_COMPRESSED) return;
    if (choice?.who === "learned" && !choice.prediction.compresses) return;
    [envelope.body, envelope.contentEncoding] = compress(envelope.body, compression);
  }

  async #decided(message: Outgoing, timeout: number): Promise<Place> {
    return this.#places.make(message, await this.#parts.router.ask(message, timeout / 2));
  }

  /** Check a message, and return it without an address. A refusal is audited too. */
  #encoded(message: Outgoing, started: number, routed: boolean): Envelope {
    const { application, catalog, maxBytes } = this.#parts;
    if (typeof message !== "object" || message === null) {
      const remedy = "Pass an object such as {module, action, data}";
      throw new ConfigurationError(`message: ${typeName(message)} is not a message`, { remedy });
    }
    let messageId: unknown;
    try {
      messageId = message.messageId ?? newId();
      checkOptions(message, messageId);
      if (routed) checkNames("option of a message", message, OUTGOING);
      // Not the generated id: it means nothing to the caller.
      if (routed && this.#places.of(message.module, message.action) === undefined) {
        checkRoute(catalog, message.module, message.action, message.messageId);
      }
      const [body, contentType] = encode(message.data, messageId as string, maxBytes);
      return {
        exchange: "",
        routingKey: "",
        body,
        messageId: messageId as string,
        headers: message.headers ?? {},
        priority: 0,
        contentType,
        contentEncoding: undefined,
        expiration: undefined,
        timestamp: undefined,
        appId: application,
        correlationId: undefined,
        replyTo: undefined,
        type: undefined,
        received: false,
      };
    } catch (error) {
      this.#refused(message, messageId, error, started);
      if (error instanceof MessagingError) throw error;
      // A value's own code has failed; one message must not end a batch.
      const problem = `the options cannot be read: ${thrown(error)}`;
      throw new ConfigurationError(problem, { remedy: "Pass plain values", cause: error });
    }
  }

  /** Publish, if at least one of the queues exists, and audit the outcome. */
  async #publish(
    message: Outgoing,
    envelope: Envelope,
    place: Place,
    timeout: number,
    started: number,
  ): Promise<SendResult> {
    const { transport, reach } = this.#parts;
    const { decision, queues } = place;
    envelope.exchange = place.exchange;
    envelope.routingKey = place.routingKey;
    envelope.priority = decision.priority;
    envelope.timestamp = new Date();
    const size = envelope.body.length;
    const operation = sending(place.exchange, place.routingKey, envelope.messageId, size, transport.server);
    const isShared = operation === undefined && message.headers === undefined;
    envelope.headers = isShared ? (place.headers as Envelope["headers"]) : { ...message.headers, ...place.headers };
    operation?.inject(envelope.headers);
    try {
      if (!reach.isKnown(queues) && !(await reach.find(queues, left(timeout, started)))) {
        const { tenantId } = this.#parts.names;
        throw new NotRoutable(`the tenant ${tenantId} has no queue ${queues.join(" or ")}`);
      }
      await transport.publish(envelope, left(timeout, started));
    } catch (error) {
      throw this.#failed(message, envelope, error, operation, started);
    }
    operation?.end();
    this.#audit(message, envelope, "confirmed", started);
    return {
      messageId: envelope.messageId,
      exchange: envelope.exchange,
      routingKey: envelope.routingKey,
      priority: envelope.priority,
      mobileOptimized: decision.mobileOptimized,
      bytes: size,
      decision: decision.reason,
    };
  }

  /** Note a failure of a send, and return it as an error about the message. */
  #failed(
    message: Outgoing,
    envelope: Envelope,
    error: unknown,
    operation: Operation | undefined,
    started: number,
  ): unknown {
    operation?.failed(error);
    operation?.end();
    this.#audit(message, envelope, error instanceof Error ? error.name : "Error", started);
    const isAbout = !(error instanceof MessagingError) || error.messageId !== undefined;
    return isAbout ? error : error.about(envelope.messageId);
  }

  /** Audit a message that was refused. Nothing of it is checked yet: its values are cut to what a record can hold. */
  #refused(message: Outgoing, messageId: unknown, error: unknown, started: number): void {
    if (this.#parts.auditor === undefined) return;
    this.#note({
      at: new Date(),
      messageId: printable(messageId),
      module: printable(message.module),
      action: printable(message.action),
      exchange: "",
      routingKey: "",
      priority: 0,
      bytes: 0,
      outcome: error instanceof Error ? error.name : "Error",
      milliseconds: since(started),
    });
  }

  #audit(message: Outgoing, envelope: Envelope, outcome: string, started: number): void {
    if (this.#parts.auditor === undefined) return;
    this.#note({
      at: envelope.timestamp ?? new Date(),
      messageId: envelope.messageId,
      module: message.module,
      action: message.action,
      exchange: envelope.exchange,
      routingKey: envelope.routingKey,
      priority: envelope.priority,
      bytes: envelope.body.length,
      outcome,
      milliseconds: since(started),
    });
  }

  #note(record: Omit<AuditRecord, "tenant" | "application">): void {
    const { auditor, names, application } = this.#parts;
    auditor?.note({ ...record, tenant: names.tenantId, application });
  }

  /**
   * Send with `window` workers, each taking the next message of the iterable.
   *
   * An error of the iterable stops the sending; it is thrown once the messages in flight are done.
   */
  async sendMany(
    messages: Iterable<Outgoing> | AsyncIterable<Outgoing>,
    window: number,
    timeout: number,
  ): Promise<Batch> {
    checkedCount("window", window, MAX_WINDOW);
    checkedSeconds("timeout", timeout);
    const next = taker(messages);
    const sent: SendResult[] = [];
    const failed: (readonly [Outgoing, MessagingError])[] = [];
    let [count, broken] = [0, undefined as { readonly error: unknown } | undefined];
    const work = async () => {
      while (broken === undefined) {
        let message: Outgoing | undefined;
        let number: number;
        try {
          const taken = next();
          const { done, value } = taken instanceof Promise ? await taken : taken;
          if (done) return;
          number = count++;
          message = value;
        } catch (error) {
          broken ??= { error };
          return;
        }
        try {
          sent[number] = await this.send(message, timeout);
        } catch (error) {
          if (!(error instanceof MessagingError)) throw error;
          failed[number] = [message, error];
          await turn(); // failures that need no broker would hold up the whole program
        }
      }
    };
    await Promise.all(Array.from({ length: window }, work));
    if (broken !== undefined) throw (broken as { readonly error: unknown }).error;
    return new Batch(dense(sent), dense(failed));
  }
}

function left(timeout: number, started: number): number {
  return timeout - (performance.now() - started) / 1000;
}

function since(started: number): number {
  return Math.round((performance.now() - started) * 1000) / 1000;
}

function printable(name: unknown): string {
  return typeof name === "string" && isPrintable(name) ? name.slice(0, 255) : shown(name);
}

/** Return the values of a list in order, without its holes. */
function dense<Value>(values: readonly Value[]): Value[] {
  return values.filter(() => true);
}

type Taken = IteratorResult<Outgoing, unknown>;

/** Return a function that takes the next message: one at a time, even if many ask. */
function taker(messages: Iterable<Outgoing> | AsyncIterable<Outgoing>): () => Taken | Promise<Taken> {
  if (typeof messages === "object" && messages !== null) {
    if (Symbol.asyncIterator in messages) {
      const iterator = messages[Symbol.asyncIterator]();
      let turn: Promise<unknown> = Promise.resolve();
      return () => {
        const taken = turn.then(() => iterator.next());
        turn = taken.catch(() => undefined);
        return taken;
      };
    }
    if (Symbol.iterator in messages) {
      const iterator = messages[Symbol.iterator]();
      return () => iterator.next();
    }
  }
  const remedy = "Pass an array, a generator or an asynchronous one";
  throw new ConfigurationError(`messages: ${typeName(messages)} is not iterable`, { remedy });
}
