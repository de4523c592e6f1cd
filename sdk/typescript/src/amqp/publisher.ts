/** Publishing with confirmations over a link, repeated with the same id if the link breaks before the answer. */

import {
  AccessRefused,
  MessagingError,
  NotConnected,
  NotRoutable,
  NotSerializable,
  QueueFull,
  SendTimedOut,
} from "../errors.ts";
import type { Envelope } from "../message.ts";
import { tooLarge } from "./failures.ts";
import type { Link, User } from "./link.ts";
import { pause, seconds } from "./waiting.ts";
import { Closed, type Lane, type Wire, written } from "./wire.ts";

/** Between a broken channel and the next attempt. */
const PAUSE_MS = 50;
/** Messages waiting for their confirmation; more wait for their turn. */
const MAX_IN_FLIGHT = 2_000;
/** Bytes of their bodies: what is written waits in memory until the broker has read it. */
const MAX_BYTES_IN_FLIGHT = 64 * 1024 * 1024;
/** Messages that leave the queue together, if so many wait. */
const BATCH = 100;
/** How often deadlines are looked at: one timer for all messages, after what has come meanwhile is read. */
const SWEEP_MS = 25;
/** Bytes of a frame, until the broker has announced its limit. */
const FRAME_MAX = 131_072;

const ACCESS_REFUSED = 403;
const NOT_FOUND = 404;
const PRECONDITION_FAILED = 406;

interface Pending {
  readonly envelope: Envelope;
  readonly since: number;
  readonly deadline: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  /** True once an attempt has ended without the broker's answer: it may have been stored. */
  cutOff: boolean;
  returned: boolean;
}

/** A channel in confirm mode, and the messages that wait for its confirmations, by tag. */
class Flight {
  readonly lane: Lane;
  readonly wire: Wire;
  readonly pending = new Map<number, Pending>();
  /** Called once nothing is pending. */
  landed: (() => void) | undefined;
  #bytes = 0;

  constructor(wire: Wire, lane: Lane) {
    this.wire = wire;
    this.lane = lane;
  }

  /** How many more messages may be written. One that is given up is in memory until the broker has read it. */
  get room(): number {
    const hasRoom = this.#bytes < MAX_BYTES_IN_FLIGHT && this.wire.unread < MAX_BYTES_IN_FLIGHT;
    return hasRoom ? MAX_IN_FLIGHT - this.pending.size : 0;
  }

  /** Write a message. Throws NotSerializable. */
  add(pending: Pending): void {
    this.pending.set(this.lane.publish(pending.envelope), pending);
    this.#bytes += pending.envelope.body.length;
  }

  /** Return and forget a message. */
  take(tag: number): Pending | undefined {
    const pending = this.pending.get(tag);
    if (pending === undefined) return undefined;
    this.pending.delete(tag);
    this.#bytes -= pending.envelope.body.length;
    return pending;
  }
}

/** One channel in confirm mode, opened again when it breaks. */
export class Publisher implements User {
  answers = 0;
  readonly #link: Link;
  #flight: Flight | undefined;
  readonly #flights = new Set<Flight>();
  /** Messages that wait for a channel, or for their turn. */
  #queue: Pending[] = [];
  #opening = false;
  #sweeper: NodeJS.Timeout | undefined;
  #frameMax = FRAME_MAX;

  constructor(link: Link) {
    this.#link = link;
    link.add(this);
  }

  get waiting(): boolean {
    for (const flight of this.#flights) if (flight.pending.size > 0) return true;
    return false;
  }

  /**
   * Publish until the message is confirmed or refused, or so many ms have passed.
   *
   * Rejects with NotSerializable, before sending anything, for a message that would make the broker close the connection.
   */
  publish(envelope: Envelope, ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const pending = { envelope, since, deadline: since + ms, resolve, reject, cutOff: false, returned: false };
      const flight = this.#flight;
      if (flight !== undefined && this.#queue.length === 0 && flight.room > 0) {
        this.#write(flight, pending);
      } else {
        try {
          written(envelope, this.#frameMax);
        } catch (error) {
          reject(error as Error);
          return;
        }
        this.#queue.push(pending);
        this.#pump();
      }
      this.#sweeper ??= setInterval(setImmediate, SWEEP_MS, this.#sweep);
    });
  }

  #write(flight: Flight, pending: Pending): void {
    try {
      flight.add(pending);
    } catch (error) {
      fail(pending, error as Error);
    }
  }

  /** Write what waits, as far as there is room. Open a channel if there is none. */
  #pump(): void {
    const flight = this.#flight;
    if (flight === undefined) {
      if (!this.#opening && this.#queue.length > 0) void this.#open();
      return;
    }
    // Many at once: to take them from a long queue one by one is slow.
    if (flight.room < Math.min(BATCH, this.#queue.length)) return;
    let count = 0;
    for (; count < this.#queue.length && flight.room > 0; count++) this.#write(flight, this.#queue[count]!);
    this.#queue.splice(0, count);
  }

  /** Open a channel for all messages that wait. */
  async #open(): Promise<void> {
    this.#opening = true;
    while (this.#flight === undefined && this.#queue.length > 0) {
      const wire = await this.#link.next();
      if (wire === undefined) {
        this.#giveUp();
        break;
      }
      try {
        const lane = await wire.lane(true);
        if (this.#link.offers(wire)) this.#use(new Flight(wire, lane));
        else void lane.close(); // the link has moved on meanwhile
      } catch {
        await pause(PAUSE_MS);
      }
    }
    this.#opening = false;
    this.#pump();
  }

  #use(flight: Flight): void {
    const { lane } = flight;
    lane.onConfirm = (tag, multiple, stored) => this.#confirmed(flight, tag, multiple, stored);
    lane.onReturn = (exchange, routingKey, messageId) => returned(flight, exchange, routingKey, messageId);
    lane.onEnd = (reason) => this.#ended(flight, reason);
    this.#frameMax = flight.wire.frameMax;
    this.#flight = flight;
    this.#flights.add(flight);
    if (lane.ended) this.#ended(flight, undefined);
  }

  #confirmed(flight: Flight, tag: number, multiple: boolean, stored: boolean): void {
    if (multiple) {
      for (const each of flight.pending.keys()) {
        if (each > tag) break;
        this.#settle(flight.take(each)!, stored);
      }
    } else {
      const pending = flight.take(tag);
      if (pending !== undefined) this.#settle(pending, stored);
    }
    if (this.#queue.length > 0) this.#pump();
    if (flight.pending.size === 0) flight.landed?.();
  }

  #settle(pending: Pending, stored: boolean): void {
    this.answers++;
    if (stored && !pending.returned) {
      pending.resolve();
      return;
    }
    const { exchange, routingKey } = pending.envelope;
    fail(
      pending,
      stored
        ? new NotRoutable(`no queue takes ${routingKey} from ${exchange}`)
        : new QueueFull(`the queue of ${routingKey} is full`),
    );
  }

  /** Publish the messages of a channel that has ended again over the next one, unless the broker refuses them. */
  #ended(flight: Flight, reason: Error | undefined): void {
    if (!this.#flights.delete(flight)) return;
    if (this.#flight === flight) this.#flight = undefined;
    const again: Pending[] = [];
    for (const pending of flight.pending.values()) {
      const refused = refusal(pending.envelope, reason);
      if (refused === undefined) {
        pending.cutOff = true;
        again.push(pending);
      } else {
        this.answers++;
        fail(pending, refused);
      }
    }
    flight.pending.clear();
    flight.landed?.();
    this.#queue = [...again, ...this.#queue];
    if (this.#link.closed) this.#giveUp();
    else if (this.#queue.length > 0) setTimeout(() => this.#pump(), PAUSE_MS);
  }

  /** End the messages that wait: the client is closed. */
  #giveUp(): void {
    for (const pending of this.#queue.splice(0)) fail(pending, this.#link.missing(0));
  }

  readonly #sweep = (): void => {
    const now = performance.now();
    let left = 0;
    for (const flight of this.#flights) {
      for (const [tag, pending] of flight.pending) {
        if (pending.deadline > now) {
          left++;
        } else {
          flight.take(tag);
          fail(pending, new SendTimedOut(`no confirmation within ${seconds(pending.deadline - pending.since)}`));
        }
      }
      if (flight.pending.size === 0) flight.landed?.();
    }
    if (this.#queue.some((pending) => pending.deadline <= now)) {
      const late = this.#queue.filter((pending) => pending.deadline <= now);
      this.#queue = this.#queue.filter((pending) => pending.deadline > now);
      for (const pending of late) fail(pending, this.#late(pending));
    }
    this.#pump();
    if (left === 0 && this.#queue.length === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }
  };

  /** Return why a message has waited until its deadline. */
  #late(pending: Pending): MessagingError {
    const ms = pending.deadline - pending.since;
    if (pending.cutOff) return new SendTimedOut(`no confirmation within ${seconds(ms)}`);
    if (!this.#link.connected) return this.#link.missing(ms);
    if (this.#flight === undefined) return new NotConnected("no channel before the deadline");
    return new SendTimedOut(`no confirmation within ${seconds(ms)}`);
  }

  /** Ask nothing: the next message asks. */
  ask(): Promise<void> {
    return Promise.resolve();
  }

  lost(): void {
    for (const flight of [...this.#flights]) if (!this.#link.offers(flight.wire)) this.#ended(flight, undefined);
    if (this.#link.closed) this.#giveUp();
  }

  /** Publish over the link's new connection. Wait for the answers that are due over the old one. */
  async move(): Promise<void> {
    const old = this.#flight;
    this.#flight = undefined;
    this.#pump();
    if (old === undefined || old.pending.size === 0) return;
    await new Promise<void>((resolve) => {
      old.landed = resolve;
    });
    this.#flights.delete(old);
  }
}

function fail(pending: Pending, error: Error): void {
  if (pending.cutOff && !(error instanceof SendTimedOut)) {
    // An earlier attempt may have been stored, whatever this one ends with.
    const problem = error instanceof MessagingError ? error.problem : error.message;
    pending.reject(new SendTimedOut(`cut off before the broker's answer, then ${problem}`, { cause: error }));
  } else {
    pending.reject(error);
  }
}

/** Mark the oldest message of this id and address: the broker returns it just before it confirms it. */
function returned(flight: Flight, exchange: string, routingKey: string, messageId: string): void {
  for (const pending of flight.pending.values()) {
    const { envelope } = pending;
    const same = envelope.messageId === messageId && envelope.routingKey === routingKey;
    if (same && envelope.exchange === exchange && !pending.returned) {
      pending.returned = true;
      return;
    }
  }
}

/**
 * Return the broker's refusal of this message, or undefined for another error.
 *
 * An error that closes the channel reaches every message on it: it concerns this one only if it names its exchange.
 */
function refusal(envelope: Envelope, error: Error | undefined): MessagingError | undefined {
  if (!(error instanceof Closed)) return undefined;
  const { exchange, body } = envelope;
  const mine = error.message.includes(`'${exchange}'`);
  if (error.code === NOT_FOUND && mine) {
    return new NotRoutable(`there is no exchange ${exchange}`, { cause: error });
  }
  if (error.code === ACCESS_REFUSED && mine) {
    const remedy = "Check that the exchange belongs to the tenant, and that the tenant is not suspended";
    return new AccessRefused(`the user has no permission to publish to ${exchange}`, { remedy, cause: error });
  }
  const limit = error.code === PRECONDITION_FAILED ? tooLarge(error) : undefined;
  if (limit !== undefined && body.length > limit) {
    const [size, most] = [body.length, limit].map((bytes) => bytes.toLocaleString("en"));
    return new NotSerializable(`the message is ${size} bytes, the broker takes at most ${most}`, {
      remedy: "Store the data elsewhere and send its location",
      cause: error,
    });
  }
  return undefined;
}
