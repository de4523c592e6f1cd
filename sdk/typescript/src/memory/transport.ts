/** The in-memory broker as a transport: routing, reachability, and consumers. */

import { NotConnected, NotRoutable, QueueFull } from "../errors.ts";
import { type Envelope, type HeaderValue, RECEIVED_HEADER } from "../message.ts";
import type { Deliver, QueueFigures, Subscription, Transport } from "../transport.ts";
import { MemoryQueue, type Reader, type Reason } from "./queue.ts";
import type { Exchange, Queue, Topology } from "./topology.ts";

/** One vhost in memory. */
export class MemoryVhost {
  readonly queues: ReadonlyMap<string, MemoryQueue>;
  readonly #exchanges: ReadonlyMap<string, Exchange>;
  readonly #topology: Topology;
  readonly #waiting = new Set<() => void>();
  #up = true;

  /** `delay` scales all waiting times. */
  constructor(topology: Topology, delay: number) {
    this.#topology = topology;
    this.#exchanges = new Map(topology.exchanges.map((exchange) => [exchange.name, exchange]));
    const deadLetter = this.#deadLetter.bind(this);
    this.queues = new Map(
      topology.queues.map((queue) => {
        return [queue.name, new MemoryQueue(queue, topology.settings(queue.name), delay, deadLetter)];
      }),
    );
  }

  get up(): boolean {
    return this.#up;
  }

  set up(up: boolean) {
    this.#up = up;
    if (!up) return;
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Wait for the broker. Rejects with NotConnected after `timeout` seconds. */
  reachable(timeout: number): Promise<void> {
    if (this.#up) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#waiting.delete(wake);
        reject(new NotConnected(`no connection to the memory broker within ${timeout} s`));
      };
      const timer = setTimeout(late, Math.max(timeout, 0) * 1000);
      const wake = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#waiting.add(wake);
    });
  }

  /** Put a message into every queue it is routed to. Throws NotRoutable or QueueFull. */
  publish(envelope: Envelope): void {
    if (envelope.exchange !== "" && !this.#exchanges.has(envelope.exchange)) {
      throw new NotRoutable(`there is no exchange ${envelope.exchange}`);
    }
    const queues = this.#route(envelope.exchange, envelope.routingKey);
    const full = queues.filter((queue) => queue.full);
    for (const queue of queues) {
      if (!full.includes(queue)) {
        queue.put({ ...envelope, headers: { [RECEIVED_HEADER]: Date.now(), ...envelope.headers } });
      }
    }
    if (full.length > 0) throw new QueueFull(`the queue of ${envelope.routingKey} is full`);
  }

  #route(exchange: string, key: string): MemoryQueue[] {
    if (exchange === "") return this.#queuesOf([key]);
    const { type, alternate } = this.#exchanges.get(exchange)!;
    const bound = this.#topology.bindings
      .filter((binding) => binding.source === exchange && matches(type, binding.routingKey, key))
      .map((binding) => binding.destination);
    if (bound.length === 0 && alternate !== undefined) return this.#route(alternate, key);
    return this.#queuesOf(new Set(bound));
  }

  #queuesOf(names: Iterable<string>): MemoryQueue[] {
    return [...names].map((name) => this.queues.get(name)).filter((queue) => queue !== undefined);
  }

  #deadLetter(queue: Queue, envelope: Envelope, reason: Reason): void {
    if (queue.deadLetters === undefined) return;
    const { exchange, routingKey } = queue.deadLetters;
    const { "x-delivery-count": _, "x-acquired-count": __, ...headers } = envelope.headers;
    const earlier = Array.isArray(headers["x-death"]) ? (headers["x-death"] as HeaderValue[]) : [];
    const death: HeaderValue = {
      queue: queue.name,
      reason,
      exchange: envelope.exchange,
      "routing-keys": [envelope.routingKey],
      count: 1,
      time: new Date(),
    };
    const moved = {
      ...envelope,
      exchange,
      routingKey,
      headers: { ...headers, "x-death": [death, ...earlier] },
      expiration: undefined,
    };
    for (const target of this.#route(exchange, routingKey)) target.put(moved);
  }

  close(): void {
    for (const queue of this.queues.values()) queue.close();
  }
}

function matches(type: Exchange["type"], pattern: string, key: string): boolean {
  if (type === "fanout") return true;
  if (type === "direct") return pattern === key;
  const [words, given] = [pattern.split("."), key.split(".")];
  return (
    words.length === given.length && words.every((word, at) => word === given[at] || (word === "*" && given[at] !== ""))
  );
}

/** A consumer of some queues. Closing it returns unanswered messages, like a lost connection. */
class MemorySubscription implements Subscription {
  readonly #reading: readonly (readonly [MemoryQueue, Reader])[];

  constructor(queues: readonly MemoryQueue[], prefetch: number, deliver: Deliver) {
    this.#reading = queues.map((queue) => [queue, queue.read(deliver, prefetch)] as const);
  }

  async cancel(): Promise<void> {
    for (const [queue, reader] of this.#reading) queue.stopReading(reader);
  }

  async close(): Promise<void> {
    await this.cancel();
    for (const [, reader] of this.#reading) {
      for (const delivery of [...reader.unanswered]) await delivery.reject({ requeue: true });
    }
  }
}

/** The transport to a vhost in memory. */
export class MemoryTransport implements Transport {
  readonly server = undefined;
  readonly #vhost: MemoryVhost;

  constructor(vhost: MemoryVhost) {
    this.#vhost = vhost;
  }

  get connected(): boolean {
    return this.#vhost.up;
  }

  async publish(envelope: Envelope, timeout: number): Promise<void> {
    await this.#vhost.reachable(timeout);
    this.#vhost.publish(envelope);
  }

  async hasQueue(queue: string, timeout: number): Promise<boolean> {
    await this.#vhost.reachable(timeout);
    return this.#vhost.queues.has(queue);
  }

  async subscribe(
    names: readonly string[],
    prefetch: number,
    deliver: Deliver,
    timeout: number,
    _answerWithin: number,
  ): Promise<Subscription> {
    await this.#vhost.reachable(timeout);
    const queues = names.map((name) => this.#vhost.queues.get(name)).filter((queue) => queue !== undefined);
    if (queues.length < names.length) throw new NotRoutable(`there is no queue ${names.join(" or ")}`);
    return new MemorySubscription(queues, prefetch, deliver);
  }

  async queues(timeout: number): Promise<readonly QueueFigures[]> {
    await this.#vhost.reachable(timeout);
    return [...this.#vhost.queues.values()].map((queue) => ({
      name: queue.name,
      messages: queue.ready.length + queue.unacked + queue.delayed,
      messages_ready: queue.ready.length + queue.delayed,
      messages_unacknowledged: queue.unacked,
      consumers: queue.consumers,
    }));
  }

  async ping(timeout: number): Promise<void> {
    await this.#vhost.reachable(timeout);
  }

  async close(): Promise<void> {}
}
