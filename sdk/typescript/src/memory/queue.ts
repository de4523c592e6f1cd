/** A quorum queue in memory: strict priorities, a depth limit, expiry, counted failures, delayed retries. */

import { MAX_TIMER_MS } from "../amqp/waiting.ts";
import type { Envelope } from "../message.ts";
import type { Deliver, Delivery } from "../transport.ts";
import type { Queue, Settings } from "./topology.ts";

export type Reason = "rejected" | "expired" | "delivery_limit";

interface Entry {
  readonly priority: number;
  readonly order: number;
  readonly envelope: Envelope;
}

const MAX_PRIORITY = 31;
const USUAL_DELIVERY_LIMIT = 20;
let order = 0;

/** A consumer of the queue, and what it has not answered. */
export class Reader {
  readonly deliver: Deliver;
  readonly prefetch: number;
  readonly unanswered = new Set<MemoryDelivery>();

  constructor(deliver: Deliver, prefetch: number) {
    this.deliver = deliver;
    this.prefetch = prefetch;
  }
}

/** A delivered message. Only the first answer counts. */
export class MemoryDelivery implements Delivery {
  readonly envelope: Envelope;
  readonly #source: MemoryQueue;
  readonly #reader: Reader;
  readonly #entry: Envelope;
  #open = true;

  constructor(source: MemoryQueue, reader: Reader, entry: Envelope) {
    this.envelope = { ...entry, headers: { ...entry.headers }, received: true };
    this.#source = source;
    this.#reader = reader;
    this.#entry = entry;
  }

  get queue(): string {
    return this.#source.name;
  }

  get lost(): boolean {
    return !this.#open;
  }

  /** Nothing is lost in memory. */
  begin(): void {}

  async ack(): Promise<void> {
    this.#answer(() => {});
  }

  async reject({ requeue }: { readonly requeue: boolean }): Promise<void> {
    this.#answer((entry) => (requeue ? this.#source.fail(entry) : this.#source.refuse(entry)));
  }

  async giveBack(): Promise<void> {
    this.#answer((entry) => this.#source.putBack(entry));
  }

  #answer(then: (entry: Envelope) => void): void {
    if (!this.#open) return;
    this.#open = false;
    this.#source.unacked--;
    this.#reader.unanswered.delete(this);
    then(this.#entry);
    this.#source.handOut();
  }
}

/** One queue. Each dead letter is passed to `deadLetter`, with the reason. */
export class MemoryQueue {
  readonly name: string;
  readonly #queue: Queue;
  readonly #settings: Settings;
  readonly #delay: number;
  readonly #deadLetter: (queue: Queue, envelope: Envelope, reason: Reason) => void;
  readonly #readers: Reader[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  /** The next one first. */
  readonly #ready: Entry[] = [];
  unacked = 0;
  delayed = 0;

  constructor(
    queue: Queue,
    settings: Settings,
    delay: number,
    deadLetter: (queue: Queue, envelope: Envelope, reason: Reason) => void,
  ) {
    this.name = queue.name;
    this.#queue = queue;
    this.#settings = settings;
    this.#delay = delay;
    this.#deadLetter = deadLetter;
  }

  get full(): boolean {
    const { maxLength, rejectsWhenFull = false } = this.#settings;
    return rejectsWhenFull && maxLength !== undefined && this.#ready.length + this.delayed >= maxLength;
  }

  get ready(): Envelope[] {
    return this.#ready.map((entry) => entry.envelope);
  }

  get consumers(): number {
    return this.#readers.length;
  }

  put(envelope: Envelope): void {
    const limits = [envelope.expiration, this.#settings.messageTtl].filter((limit) => limit !== undefined);
    const entry = this.#enqueue(envelope);
    // A message that waits for its end keeps no process alive.
    if (limits.length > 0) this.#later(Math.min(...limits), () => this.#expire(entry)).unref();
    this.handOut();
  }

  #enqueue(envelope: Envelope): Entry {
    const entry = { priority: Math.min(envelope.priority, MAX_PRIORITY), order: order++, envelope };
    // The first behind all of the same or a higher priority.
    let [low, high] = [0, this.#ready.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ready[middle]!.priority >= entry.priority) low = middle + 1;
      else high = middle;
    }
    this.#ready.splice(low, 0, entry);
    return entry;
  }

  #later(ms: number, then: () => void): NodeJS.Timeout {
    const wait = Math.min(ms * this.#delay, MAX_TIMER_MS);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, wait);
    this.#timers.add(timer);
    return timer;
  }

  #expire(entry: Entry): void {
    const at = this.#ready.indexOf(entry);
    if (at < 0) return;
    this.#ready.splice(at, 1);
    this.#deadLetter(this.#queue, entry.envelope, "expired");
  }

  /** Count a failure: deliver again later, or dead-letter after the delivery limit. */
  fail(envelope: Envelope): void {
    const failures = countIn(envelope, "x-delivery-count") + 1;
    const { deliveryLimit: limit = USUAL_DELIVERY_LIMIT } = this.#settings;
    if (limit >= 0 && failures > limit) {
      this.#deadLetter(this.#queue, envelope, "delivery_limit");
      return;
    }
    this.putBack({ ...envelope, headers: { ...envelope.headers, "x-delivery-count": failures } }, failures);
  }

  /** Deliver again, after the policy's delay for so many failures. */
  putBack(envelope: Envelope, times = 1): void {
    const handedOut = countIn(envelope, "x-acquired-count") + 1;
    const again = { ...envelope, headers: { ...envelope.headers, "x-acquired-count": handedOut } };
    const comeBack = () => {
      this.delayed--;
      this.#enqueue(again);
      this.handOut();
    };
    this.delayed++;
    const { firstDelay, maxDelay = 0 } = this.#settings;
    if (firstDelay === undefined) comeBack();
    else this.#later(Math.min(firstDelay * times, maxDelay), comeBack);
  }

  refuse(envelope: Envelope): void {
    this.#deadLetter(this.#queue, envelope, "rejected");
  }

  read(deliver: Deliver, prefetch: number): Reader {
    const reader = new Reader(deliver, prefetch);
    this.#readers.push(reader);
    this.handOut();
    return reader;
  }

  stopReading(reader: Reader): void {
    const at = this.#readers.indexOf(reader);
    if (at >= 0) this.#readers.splice(at, 1);
  }

  /** Deliver ready messages to the readers below their prefetch, in turn. */
  handOut(): void {
    while (this.#ready.length > 0) {
      const at = this.#readers.findIndex((each) => each.unanswered.size < each.prefetch);
      if (at < 0) return;
      const [reader] = this.#readers.splice(at, 1) as [Reader];
      this.#readers.push(reader);
      const delivery = new MemoryDelivery(this, reader, this.#ready.shift()!.envelope);
      reader.unanswered.add(delivery);
      this.unacked++;
      reader.deliver(delivery);
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}

function countIn(envelope: Envelope, name: string): number {
  const count = envelope.headers[name];
  return typeof count === "number" ? count : 0;
}
