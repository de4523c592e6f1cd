/** Check that a queue exists before publishing: ask the broker once, then trust the answer for a minute. */

import { NotConnected } from "./errors.ts";
import type { Transport } from "./transport.ts";

const TRUSTED_MS = 60_000;

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
  readonly #waiting = new Set<(error: Error) => void>();
  #closed = false;

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
    if (this.#closed) throw closed();
    const deadline = performance.now() + timeout * 1000;
    let timer: NodeJS.Timeout | undefined;
    let give!: (error: Error) => void;
    const ended = new Promise<never>((_, reject) => {
      give = reject;
      this.#waiting.add(give);
      const problem = `the broker did not say in time whether it has ${queues.join(" or ")}`;
      timer = setTimeout(() => reject(new NotConnected(problem)), Math.max(timeout, 0) * 1000);
    });
    try {
      return await Promise.race([this.#found(queues, deadline), ended]);
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(give);
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
    this.#closed = true;
    for (const give of this.#waiting) give(closed());
  }
}

function closed(): NotConnected {
  return new NotConnected("the client is closed", { remedy: "Connect a new one" });
}
