/**
 * A message delivered by the broker and its single answer, even if its channel ends before that.
 *
 * The broker delivers a message again if its channel ends during the handling. If this process gets it again, the new
 * delivery takes the answer of the running or finished handling: the message is not handled twice.
 */

import type { Logger } from "../log.ts";
import { type Envelope, type HeaderValue, shownId } from "../message.ts";
import type { Delivery } from "../transport.ts";
import type { Lane, Received } from "./wire.ts";

/** Time to keep an unsent answer for the next delivery. */
const REMEMBERED_MS = 600_000;
/** An answer is written at once: there is nothing to wait for. */
const WRITTEN = Promise.resolve();

type Answer = "ack" | "fail" | "reject" | "give back";

/** The unanswered deliveries of one channel. */
export class Handout {
  readonly lane: Lane;
  readonly open = new Map<number, AmqpDelivery>();
  /** True once the broker has let the channel consume all its queues. */
  consuming = false;
  /** Called once nothing is open. */
  emptied: (() => void) | undefined;
  #ended = false;

  constructor(lane: Lane) {
    this.lane = lane;
  }

  /** True if the channel is closed or closing: answers no longer arrive. */
  get ended(): boolean {
    return this.#ended || this.lane.ended;
  }

  get isOver(): boolean {
    return this.#ended;
  }

  /** Return the deliveries being handled, and the number of the others. */
  end(): { handling: AmqpDelivery[]; waiting: number } {
    this.#ended = true;
    const handling = [...this.open.values()].filter((delivery) => delivery.begun);
    const waiting = this.open.size - handling.length;
    this.open.clear();
    this.emptied?.();
    return { handling, waiting };
  }
}

/** A message from the broker. Only the first answer counts: a second one would close the channel. */
export class AmqpDelivery implements Delivery {
  readonly queue: string;
  readonly envelope: Envelope;
  readonly redelivered: boolean;
  answer: Answer | undefined;
  answeredAt = 0;
  begun = false;
  readonly #log: Logger;
  #tag: number;
  #handout: Handout;

  constructor(received: Received, queue: string, handout: Handout, log: Logger) {
    this.queue = queue;
    this.envelope = envelopeOf(received);
    this.redelivered = received.redelivered;
    this.#tag = received.tag;
    this.#handout = handout;
    this.#log = log;
    handout.open.set(received.tag, this);
  }

  get lost(): boolean {
    return this.#handout.ended;
  }

  begin(): void {
    this.begun = true;
  }

  ack(): Promise<void> {
    return this.#decide("ack");
  }

  reject(options: { readonly requeue: boolean }): Promise<void> {
    return this.#decide(options.requeue ? "fail" : "reject");
  }

  giveBack(): Promise<void> {
    return this.#decide("give back");
  }

  #decide(answer: Answer): Promise<void> {
    if (this.answer !== undefined) return WRITTEN;
    this.answer = answer;
    if (!this.lost) {
      this.#send(answer);
    } else if (answer !== "give back") {
      this.answeredAt = performance.now();
      const shown = shownId(this.envelope.messageId);
      this.#log.warn(
        `${this.queue}: cannot answer message ${shown} (${answer}): its channel is gone. The broker delivers it again`,
      );
    }
    return WRITTEN;
  }

  /** Take over a new delivery of the same message: answer it now, or at the end of the handling. */
  takeOver(received: Received, handout: Handout): void {
    const state = this.answer === undefined ? "is still being handled" : "was handled meanwhile";
    this.#log.warn(
      `${this.queue}: message ${shownId(this.envelope.messageId)} came again, and ${state}; it is not handled twice`,
    );
    this.#tag = received.tag;
    this.#handout = handout;
    handout.open.set(received.tag, this);
    if (this.answer !== undefined) this.#send(this.answer);
  }

  #send(answer: Answer): void {
    const { lane, open } = this.#handout;
    open.delete(this.#tag);
    if (answer === "ack") lane.ack(this.#tag);
    else if (answer === "give back") lane.giveBack(this.#tag);
    else lane.reject(this.#tag, answer === "fail");
    if (open.size === 0) this.#handout.emptied?.();
  }
}

/** Deliveries being handled when their channel ended. Any subscription of the client may get them again. */
export class Unanswered {
  readonly #kept = new Map<string, AmqpDelivery>();

  /** Keep deliveries for later. Those without a message id cannot be recognised, and are not kept. */
  keep(deliveries: Iterable<AmqpDelivery>): void {
    const oldest = performance.now() - REMEMBERED_MS;
    for (const [key, each] of this.#kept) {
      if (each.answer !== undefined && each.answeredAt <= oldest) this.#kept.delete(key);
    }
    for (const each of deliveries) if (each.envelope.messageId) this.#kept.set(keyOf(each), each);
  }

  /** Return and forget the earlier delivery of the same message, unless it was given back. */
  pop(delivery: AmqpDelivery): AmqpDelivery | undefined {
    if (this.#kept.size === 0 || !delivery.redelivered) return undefined;
    const key = keyOf(delivery);
    const kept = this.#kept.get(key);
    if (kept === undefined || !same(kept.envelope, delivery.envelope)) return undefined;
    this.#kept.delete(key);
    return kept.answer === "give back" ? undefined : kept;
  }
}

function keyOf(delivery: AmqpDelivery): string {
  return `${delivery.queue}\n${delivery.envelope.messageId}`;
}

/** Return true if two envelopes are one message: equal except for the broker's counters. */
function same(one: Envelope, other: Envelope): boolean {
  return (
    one.body.equals(other.body) &&
    one.exchange === other.exchange &&
    one.routingKey === other.routingKey &&
    one.timestamp?.getTime() === other.timestamp?.getTime() &&
    one.appId === other.appId &&
    one.correlationId === other.correlationId &&
    shown(own(one.headers)) === shown(own(other.headers))
  );
}

function own(headers: Record<string, HeaderValue>): [string, HeaderValue][] {
  return Object.entries(headers).filter(([name]) => !name.startsWith("x-"));
}

function shown(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? `${each}n` : each));
}

function envelopeOf(received: Received): Envelope {
  return {
    exchange: received.exchange,
    routingKey: received.routingKey,
    body: received.body,
    messageId: received.messageId,
    headers: received.headers,
    priority: received.priority,
    contentType: received.contentType,
    contentEncoding: received.contentEncoding,
    expiration: received.expiration,
    timestamp: received.timestamp,
    appId: received.appId,
    correlationId: received.correlationId,
    replyTo: received.replyTo,
    type: received.type,
    received: true,
  };
}
