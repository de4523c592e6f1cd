/** From a subscription to work: deliveries wait for their turn, then are decoded and claimed. */

import { pause } from "../amqp/waiting.ts";
import { shown } from "../checks.ts";
import { decode, statedEncoding, Undecodable } from "../encoding.ts";
import { type Claim, NeverStored } from "../idempotency.ts";
import { Header, type HeaderValue, type Message, receiveTime, shownId } from "../message.ts";
import { ANSWER_WITHIN_S, type Delivery, type Subscription } from "../transport.ts";
import { askStore, deadLetterQueueOf, queuesOf, type Source, Work } from "./work.ts";

const BUSY_MS = 1_000;

/**
 * Turn the deliveries of an action into work. Answer undecodable messages and duplicates.
 *
 * Prefetched deliveries wait in the order of priority, one queue per broker queue. One that is lost before its turn is
 * dropped: the broker delivers the message again.
 */
export class Receiver {
  duplicates = 0;
  undecodable = 0;
  readonly #source: Source;
  readonly #queues: readonly string[];
  readonly #waiting: Delivery[][];
  readonly #filled: () => void;
  readonly #counter: string;
  #cancelled = false;
  #subscription: Subscription | undefined;

  /** `filled` is called when there is a delivery to take. */
  constructor(source: Source, filled: () => void) {
    this.#source = source;
    this.#queues = queuesOf(source);
    this.#waiting = this.#queues.map(() => []);
    this.#filled = filled;
    this.#counter = source.catalog.retry.strategy === "queues" ? Header.FAILURES : "x-delivery-count";
  }

  /** Subscribe. Times are seconds. Rejects with NotConnected, NotRoutable or AccessRefused. */
  async open(prefetch: number, timeout: number, answerWithin = ANSWER_WITHIN_S): Promise<void> {
    const put = (delivery: Delivery) => this.#put(delivery);
    this.#subscription = await this.#source.transport.subscribe(this.#queues, prefetch, put, timeout, answerWithin);
  }

  #put(delivery: Delivery): void {
    if (this.#cancelled) {
      void delivery.giveBack();
      return;
    }
    const waiting =
      this.#waiting.length === 1 ? this.#waiting[0]! : this.#waiting[this.#queues.indexOf(delivery.queue)]!;
    while (waiting.length > 0 && waiting[0]!.lost) waiting.shift();
    waiting.push(delivery);
    this.#filled();
  }

  /** Take no more deliveries, and give back those that wait. */
  async cancel(): Promise<void> {
    this.#cancelled = true;
    await this.#subscription?.cancel();
    await Promise.all(this.#waiting.flatMap((waiting) => waiting.splice(0)).map((delivery) => delivery.giveBack()));
  }

  async close(): Promise<void> {
    await this.#subscription?.close();
  }

  /** Return the next delivery, begun, or undefined if none is there. */
  take(): Delivery | undefined {
    if (this.#cancelled) return undefined;
    for (const waiting of this.#waiting) {
      while (waiting.length > 0) {
        const delivery = waiting.shift()!;
        if (!delivery.lost) {
          delivery.begin();
          return delivery;
        }
      }
    }
    return undefined;
  }

  /** Return the work of a delivery, or undefined if it has been answered already. */
  receive(delivery: Delivery): Work | undefined | Promise<Work | undefined> {
    const source = this.#source;
    const { envelope } = delivery;
    let data: unknown;
    try {
      const encoding = statedEncoding(envelope.headers, envelope.contentEncoding);
      data = decode(envelope.body, envelope.contentType, encoding, source.maxBytes);
      if (source.model !== undefined) data = fitted(source.model, data);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      return this.#dies(delivery, error);
    }
    const message = this.#message(delivery, data);
    if (source.idempotency === undefined || message.messageId === "") {
      return new Work(source, delivery, message, undefined);
    }
    return this.#claimed(delivery, message);
  }

  async #dies(delivery: Delivery, error: Undecodable): Promise<undefined> {
    const source = this.#source;
    this.undecodable++;
    const id = shownId(delivery.envelope.messageId);
    source.log.warn(
      `${delivery.queue}: message ${id}, now a dead letter in ${deadLetterQueueOf(source)}: ${error.message}`,
    );
    const work = new Work(source, delivery, this.#message(delivery, null), undefined);
    await work.reject(`undecodable: ${error.message}`);
    return undefined;
  }

  async #claimed(delivery: Delivery, message: Message): Promise<Work | undefined> {
    const source = this.#source;
    // By action, not by queue: a message that comes back through another lane is the same.
    const key = `${source.names.queue(source.module, source.action)}:${escaped(message.messageId)}`;
    const failure = `cannot claim message ${shownId(message.messageId)}; giving it back`;
    const claim = await askStore(
      source,
      async (store) => {
        try {
          return checkedClaim(await store.claim(key, source.lease));
        } catch (error) {
          if (!(error instanceof NeverStored)) throw error;
          source.log.warn(`${key} cannot be stored, so the message may be handled twice: ${error.message}`);
          return "never" as const;
        }
      },
      failure,
    );
    if (claim === "mine" || claim === "never") {
      return new Work(source, delivery, message, claim === "mine" ? key : undefined);
    }
    if (claim === "done") {
      this.duplicates++;
      await delivery.ack();
      return undefined;
    }
    // Such a broker delivers again at once, in a busy loop until the claim ends.
    if (source.catalog.retry.strategy === "queues") await pause(BUSY_MS);
    await delivery.giveBack();
    return undefined;
  }

  #message(delivery: Delivery, data: unknown): Message {
    const { envelope } = delivery;
    const { headers } = envelope;
    const failures = headers[this.#counter];
    const exchange = textOr(headers[Header.FIRST_EXCHANGE], envelope.exchange);
    return {
      data,
      messageId: envelope.messageId,
      attempt: 1 + (typeof failures === "number" && Number.isInteger(failures) && failures > 0 ? failures : 0),
      headers,
      route: {
        module: this.#source.module,
        action: this.#source.action,
        queue: delivery.queue,
        exchange,
        routingKey: textOr(headers[Header.FIRST_KEY], envelope.routingKey),
      },
      priority: envelope.priority,
      sentAt: envelope.timestamp,
      application: envelope.appId,
      broadcast: exchange === this.#source.names.automationExchange,
      receivedAt: receiveTime(headers),
    };
  }
}

/** Throw a TypeError for what is no answer of a store: it would give the message back for ever, without a word. */
function checkedClaim(claim: Claim): Claim {
  if (claim === "mine" || claim === "done" || claim === "busy") return claim;
  throw new TypeError(`claim answered ${shown(claim)}, not 'mine', 'done' or 'busy'`);
}

function textOr(value: HeaderValue | undefined, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

function fitted(model: (data: unknown) => unknown, data: unknown): unknown {
  try {
    return model(data);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Undecodable(`the data does not fit the model: ${reason.slice(0, 600)}`);
  }
}

const PLAIN = /^[ -[\]-~]*$/;
const NAMED: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/**
 * Return an id as every SDK writes it in a key: another application's may have what the store cannot hold, NUL, or
 * letters beyond its encoding.
 */
export function escaped(messageId: string): string {
  if (PLAIN.test(messageId)) return messageId;
  let text = "";
  for (const letter of messageId) {
    const code = letter.codePointAt(0)!;
    const named = NAMED[letter];
    if (named !== undefined) text += named;
    else if (code >= 32 && code < 127) text += letter;
    else if (code < 256) text += `\\x${code.toString(16).padStart(2, "0")}`;
    else if (code < 65_536) text += `\\u${code.toString(16).padStart(4, "0")}`;
    else text += `\\U${code.toString(16).padStart(8, "0")}`;
  }
  return text;
}
