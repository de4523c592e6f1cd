/** The interface between the SDK and a broker: RabbitMQ over AMQP, or the in-memory broker for tests. */

import type { Envelope } from "./message.ts";

/** The minimum time the broker waits for an answer, seconds. A dead consumer is noticed far sooner, by its connection. */
export const ANSWER_WITHIN_S = 86_400;

/** A message delivered from a queue, waiting for its answer. */
export interface Delivery {
  readonly envelope: Envelope;
  readonly queue: string;
  /** True if the channel has ended: the broker delivers the message again. Do not begin a lost delivery. */
  readonly lost: boolean;
  /** Start handling. If the channel ends meanwhile, the next delivery to this client gets the same answer. */
  begin(): void;
  ack(): Promise<void>;
  /** Refuse the message: requeued it counts as a failure, otherwise it becomes a dead letter. */
  reject(options: { readonly requeue: boolean }): Promise<void>;
  /** Return the message as if it had never been delivered. */
  giveBack(): Promise<void>;
}

/** It is called once per delivery, and never throws. */
export type Deliver = (delivery: Delivery) => void;

/** A consumer of some queues, renewed automatically after a lost connection. */
export interface Subscription {
  /** Stop deliveries. Earlier ones can still be answered. */
  cancel(): Promise<void>;
  close(): Promise<void>;
}

/** The management API's figures of one queue. */
export type QueueFigures = Readonly<Record<string, unknown>>;

/** The broker's host and port. */
export interface Server {
  readonly host: string;
  readonly port: number;
}

/** The operations the SDK needs from a broker. All timeouts are seconds; no promise is pending past its own. */
export interface Transport {
  readonly connected: boolean;
  /** The broker's host and port, if it has any. */
  readonly server: Server | undefined;
  /** Publish and wait for the confirmation. Rejects with NotConnected, NotRoutable, QueueFull or SendTimedOut. */
  publish(envelope: Envelope, timeout: number): Promise<void>;
  hasQueue(queue: string, timeout: number): Promise<boolean>;
  /** Consume, with `prefetch` messages of each queue, each answered within `answerWithin` seconds. */
  subscribe(
    queues: readonly string[],
    prefetch: number,
    deliver: Deliver,
    timeout: number,
    answerWithin: number,
  ): Promise<Subscription>;
  /** Return the management API's figures of each queue of the vhost. Rejects with StatsUnavailable. */
  queues(timeout: number): Promise<readonly QueueFigures[]>;
  /** Get an answer on every connection. Rejects with NotConnected. */
  ping(timeout: number): Promise<void>;
  close(): Promise<void>;
}
