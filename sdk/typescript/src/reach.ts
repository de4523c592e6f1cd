/** Check that a queue exists before publishing: ask the broker once, then trust the answer for a minute. */

import { Flag, TooLate, within } from "./amqp/waiting.ts";
import { closed, NotConnected } from "./errors.ts";
import type { Transport } from "./transport.ts";

const TRUSTED_MS = 60_000;
/** For the transport's own answer at the deadline. */
const PAUSE_MS = 50;

interface Answer {
  readonly at: number;
  readonly found: boolean;
}

/**
 * The known queues of a broker.
 *
 * The alternate exchange takes a message without a queue to `unrouted`, and the broker confirms it as usual: neither
 * `mandatory` nor the confirmation tells the difference. So the broker is asked before the first message. A queue
 * removed within the minute is noticed late; messages sent meanwhile wait in `unrouted`, they are not lost.
 */
export class Reach {
  readonly #transport: Transport;
  readonly #answers = new Map<string, Answer>();
  readonly #asking = new Map<string, Promise<boolean>>();
  readonly #closing = new Flag();

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Return true if the broker has confirmed one of the queues within the last minute. */
  isKnown(queues: readonly string[]): boolean {
    const oldest = performance.now() - TRUSTED_MS;
    for (const queue of queues) {
      const answer = this.#answers.get(queue);
      if (answer?.found && answer.at > oldest) return true;
    }
    return false;
  }

  /** Return true if the broker has one of the queues. Rejects with NotConnected after `timeout` seconds. */
  async find(queues: readonly string[], timeout: number): Promise<boolean> {
    if (this.#closing.isSet) throw closed();
    const ms = timeout * 1000;
    try {
      // The transport has its own deadline, and a reason.
      return await within(this.#found(queues, performance.now() + ms), ms + PAUSE_MS, this.#closing);
    } catch (error) {
      if (!(error instanceof TooLate)) throw error;
      if (this.#closing.isSet) throw closed();
      throw new NotConnected(`the broker did not say in time whether it has ${queues.join(" or ")}`);
    }
  }

  async #found(queues: readonly string[], deadline: number): Promise<boolean> {
    for (const queue of queues) {
      if (await this.#ask(queue, deadline)) return true;
    }
    return false;
  }

  /** Return the broker's answer: one question for all senders that wait for it. */
  async #ask(queue: string, deadline: number): Promise<boolean> {
    for (;;) {
      const asking = this.#asking.get(queue);
      if (asking === undefined) break;
      try {
        return await asking;
      } catch (error) {
        // The one that asked had less time than this one.
        if (performance.now() >= deadline) throw error;
      }
    }
    const asking = this.#transport.hasQueue(queue, Math.max(deadline - performance.now(), 0) / 1000);
    this.#asking.set(queue, asking);
    try {
      const found = await asking;
      this.#answers.set(queue, { at: performance.now(), found });
      return found;
    } finally {
      this.#asking.delete(queue);
    }
  }

  /** Wake the waiting senders: they get NotConnected. */
  close(): void {
    this.#closing.set();
  }
}
