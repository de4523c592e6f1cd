/** One message being handled, and its four possible endings. */

import { TooLate, within } from "../amqp/waiting.ts";
import type { Catalog } from "../catalog.ts";
import type { IdempotencyStore } from "../idempotency.ts";
import type { Logger } from "../log.ts";
import { CONTROL_HEADERS, type Envelope, Header, type HeaderValue, type Message, shownId } from "../message.ts";
import type { Names, Priority } from "../naming.ts";
import type { Delivery, Transport } from "../transport.ts";
import type { Consumed } from "./note.ts";

/** Time for an answer of the idempotency store, seconds. */
export const STORE_S = 10;
const PUBLISH_S = 10;
const MAX_REASON = 1_000;
const NOTHING = Promise.resolve();

/** The action to consume, with everything needed for it. */
export interface Source {
  readonly transport: Transport;
  readonly names: Names;
  readonly catalog: Catalog;
  readonly module: string;
  readonly action: string;
  readonly idempotency: IdempotencyStore | undefined;
  /** Seconds until the claim on an unanswered message ends. */
  readonly lease: number;
  readonly maxBytes: number;
  /** Returns the data as the type that the handler expects, or throws if it does not fit. */
  readonly model: ((data: unknown) => unknown) | undefined;
  readonly log: Logger;
  /** Learns how attempts end. It never throws. */
  readonly note?: ((note: Consumed) => void) | undefined;
}

export function deadLetterQueueOf(source: Source): string {
  return source.names.deadLetterQueue(source.module, source.action);
}

/** Return the high lane of the action, its own queue, and its other lanes. */
export function queuesOf(source: Source): string[] {
  const { names, module, action } = source;
  const lanes = source.catalog.modules[module]?.priorityLanes[action] ?? [];
  const named = (lane: Priority) => names.lane(module, action, lane);
  const high = lanes.filter((lane) => lane === "high").map(named);
  const others = lanes.filter((lane) => lane !== "high").map(named);
  return [...high, names.queue(module, action), ...others];
}

/** Return the first letters of a reason: half of a face is none. */
function cut(reason: string): string {
  if (reason.length <= MAX_REASON) return reason;
  return Array.from(reason.slice(0, 2 * MAX_REASON))
    .slice(0, MAX_REASON)
    .join("");
}

/** A message to handle: it has one ending of done, retry, reject and giveBack. Those after the first do nothing. */
export class Work {
  readonly message: Message;
  settled = false;
  #started: number | undefined;
  readonly #source: Source;
  readonly #delivery: Delivery;
  readonly #key: string | undefined;

  constructor(source: Source, delivery: Delivery, message: Message, key: string | undefined) {
    this.#source = source;
    this.#delivery = delivery;
    this.message = message;
    this.#key = key;
  }

  /** Start the time of the handler. */
  begin(): void {
    if (this.#source.note !== undefined) this.#started = Date.now();
  }

  /** Note the attempt's end. A broadcast has several: one in each module. */
  #note(outcome: Consumed["outcome"]): void {
    const { note, module, action } = this.#source;
    const { messageId, broadcast, attempt, receivedAt, sentAt } = this.message;
    if (note === undefined || broadcast || messageId === "") return;
    const [now, started, since] = [Date.now(), this.#started, receivedAt ?? sentAt];
    const isFirst = attempt === 1 && started !== undefined && since !== undefined;
    const waitedMs = isFirst ? Math.max(started - since.getTime(), 0) : undefined;
    const handledMs = started === undefined ? undefined : Math.max(now - started, 0);
    note({ module, action, messageId, waitedMs, handledMs, outcome });
  }

  /** The number of attempts after this one. */
  get attemptsLeft(): number {
    return Math.max(this.#source.catalog.retry.limit + 1 - this.message.attempt, 0);
  }

  /** What follows if this attempt fails, for the log. */
  get prospect(): string {
    const left = this.attemptsLeft;
    if (left === 0) return `now a dead letter in ${deadLetterQueueOf(this.#source)}`;
    const { firstDelay, maxDelay } = this.#source.catalog.retry;
    const delay = Math.min(firstDelay * this.message.attempt, maxDelay) / 1000;
    return `again in ${delay} s (${left} attempt${left > 1 ? "s" : ""} left)`;
  }

  /** Remember the message, then acknowledge it: in this order a crash in between loses nothing. */
  done(): Promise<void> {
    if (this.settled) return NOTHING;
    this.settled = true;
    this.#note("done");
    return this.#key === undefined ? this.#delivery.ack() : this.#remember(this.#key);
  }

  async #remember(key: string): Promise<void> {
    const failure = `message ${shownId(this.message.messageId)} is handled, but cannot be remembered`;
    await askStore(this.#source, (store) => store.done(key), failure);
    await this.#delivery.ack();
  }

  /** Count a failure. The broker delivers the message later, or makes it a dead letter after the last attempt. */
  async retry(): Promise<void> {
    if (this.settled) return;
    this.settled = true;
    this.#note(this.attemptsLeft > 0 ? "retried" : "dead");
    await this.#release();
    const { catalog, names } = this.#source;
    const { attempt } = this.message;
    if (catalog.retry.strategy !== "queues") {
      await this.#delivery.reject({ requeue: true });
    } else if (attempt > catalog.retry.limit) {
      await this.#die(`failed ${attempt} times`);
    } else {
      await this.#move(names.retryKey(this.#delivery.queue, attempt), { [Header.FAILURES]: attempt }, true);
    }
  }

  /** Make the message a dead letter with a reason. */
  async reject(reason: string): Promise<void> {
    if (this.settled) return;
    this.settled = true;
    this.#note("dead");
    await this.#release();
    await this.#die(reason);
  }

  #die(reason: string): Promise<void> {
    const { names, module, action } = this.#source;
    const noted = {
      [Header.REASON]: cut(reason).toWellFormed(),
      [Header.DIED]: new Date(),
      [Header.ATTEMPTS]: this.message.attempt,
    };
    return this.#move(names.deadLetterKey(module, action), noted, false);
  }

  /** Return the message as if it had never been delivered. After another ending, do nothing. */
  async giveBack(): Promise<void> {
    if (!this.settled) {
      this.settled = true;
      await this.#release();
    }
    await this.#delivery.giveBack();
  }

  /**
   * Publish a copy to the module's dead-letter exchange; once confirmed, acknowledge the original.
   *
   * If that fails, the broker moves the original, without the headers.
   */
  async #move(key: string, headers: Record<string, HeaderValue>, requeue: boolean): Promise<void> {
    const { transport, names, module, log } = this.#source;
    const { envelope } = this.#delivery;
    const own = Object.entries(envelope.headers).filter(([name]) => !CONTROL_HEADERS.has(name));
    const copy: Envelope = {
      ...envelope,
      exchange: names.deadLetterExchange(module),
      routingKey: key,
      headers: {
        ...Object.fromEntries(own),
        [Header.FIRST_EXCHANGE]: this.message.route.exchange,
        [Header.FIRST_KEY]: this.#originKey,
        ...headers,
      },
      expiration: undefined,
    };
    try {
      await transport.publish(copy, PUBLISH_S);
    } catch (error) {
      // Whatever it is, the broker can still move the original.
      log.warn(`cannot move message ${shownId(envelope.messageId)} to ${key}: ${String(error)}`);
      await this.#delivery.reject({ requeue });
      return;
    }
    await this.#delivery.ack();
  }

  /** The routing key, or the CC key, that leads to this action. */
  get #originKey(): string {
    const { module, action } = this.#source;
    const { route, headers } = this.message;
    const copies = Array.isArray(headers.CC) ? headers.CC : [];
    const here = `.${module}.${action}.`;
    const leads = (key: unknown) => typeof key === "string" && `.${key}.`.includes(here);
    return [route.routingKey, ...copies].find(leads) ?? route.routingKey;
  }

  #release(): Promise<unknown> {
    const key = this.#key;
    if (key === undefined) return NOTHING;
    const failure = `cannot release the claim on message ${shownId(this.message.messageId)}; it expires`;
    return askStore(this.#source, (store) => store.release(key), failure);
  }
}

/** Return the idempotency store's answer, or undefined after an error or too long a wait. */
export async function askStore<Result>(
  source: Source,
  ask: (store: IdempotencyStore) => Promise<Result>,
  failure: string,
): Promise<Result | undefined> {
  try {
    return await within(Promise.resolve(ask(source.idempotency!)), STORE_S * 1000);
  } catch (error) {
    source.log.error(error instanceof TooLate ? `${failure}: no answer within ${STORE_S} s` : failure, error);
    return undefined;
  }
}
