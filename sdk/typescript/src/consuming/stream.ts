/** Messages one by one in a `for await`, instead of a handler. */

import { Flag } from "../amqp/waiting.ts";
import { readable } from "../checks.ts";
import { ConfigurationError, Reject, Retry } from "../errors.ts";
import { type Message, shownId } from "../message.ts";
import { processing } from "../tracing.ts";
import { Receiver } from "./receiver.ts";
import type { Source, Work } from "./work.ts";

/** A message of a stream. Call `handle`, or else one of `done`, `retry`, `reject` and `giveBack`. */
export class Item<Data = unknown> {
  readonly message: Message<Data>;
  readonly #work: Work;
  readonly #source: Source;

  constructor(source: Source, work: Work) {
    this.#source = source;
    this.#work = work;
    this.message = work.message as Message<Data>;
  }

  /**
   * Run a function with the message, which is done once the function has returned.
   *
   * `throw new Retry()` and `throw new Reject(reason)` work as in a handler, and end the call without an error; any
   * other error is a retry, and is thrown to the caller.
   */
  async handle<Result>(work: (message: Message<Data>) => Result): Promise<Awaited<Result> | undefined> {
    this.#work.begin();
    const operation = processing(this.message, this.#source.transport.server);
    try {
      const call = () => work(this.message);
      const result = await (operation === undefined ? call() : operation.within(call));
      operation?.end();
      await this.#work.done();
      return result;
    } catch (given) {
      const error = readable(given);
      operation?.failed(error);
      operation?.end();
      if (error instanceof Reject) await this.#work.reject(error.reason);
      else await this.#work.retry();
      if (error instanceof Reject || error instanceof Retry) return undefined;
      throw given;
    }
  }

  done(): Promise<void> {
    return this.#work.done();
  }

  /** Count a failure: the message comes back later, and becomes a dead letter after the last attempt. */
  retry(): Promise<void> {
    return this.#work.retry();
  }

  /** Make the message a dead letter at once. */
  reject(reason: string): Promise<void> {
    return this.#work.reject(reason);
  }

  /** Return the message as if it had never been delivered. */
  giveBack(): Promise<void> {
    return this.#work.giveBack();
  }
}

/** Messages of one action: `for await (const item of client.stream(…)) await item.handle(…)`. Leaving it closes it. */
export class Stream<Data = unknown> implements AsyncIterableIterator<Item<Data>> {
  readonly #source: Source;
  readonly #prefetch: number;
  readonly #timeout: number;
  readonly #receiver: Receiver;
  readonly #filled = new Flag();
  #opening: Promise<void> | undefined;
  #open = false;
  #closing: Promise<void> | undefined;
  #taken = new Set<Work>();

  /** `timeout` is seconds for the subscription. */
  constructor(source: Source, prefetch: number, timeout: number) {
    this.#source = source;
    this.#prefetch = prefetch;
    this.#timeout = timeout;
    this.#receiver = new Receiver(source, () => this.#filled.set());
  }

  /** True once the stream is closed. */
  get ended(): boolean {
    return this.#closing !== undefined;
  }

  [Symbol.asyncIterator](): this {
    if (this.#opening !== undefined) {
      throw new ConfigurationError("a stream cannot be iterated twice", { remedy: "Ask the client for another one" });
    }
    return this;
  }

  /** Subscribe; the first message does it otherwise. Rejects with NotConnected, NotRoutable or AccessRefused. */
  open(): Promise<void> {
    this.#opening ??= this.#receiver.open(this.#prefetch, this.#timeout).then(() => {
      this.#open = true;
    });
    return this.#opening;
  }

  /** Return the next message, once there is one. The stream ends when it is closed. */
  async next(): Promise<IteratorResult<Item<Data>, undefined>> {
    try {
      await this.open();
    } catch (error) {
      if (!this.ended) throw error;
    }
    while (!this.ended) {
      const delivery = this.#receiver.take();
      if (delivery === undefined) {
        this.#filled.clear();
        await this.#filled.wait();
        continue;
      }
      let work: Work | undefined;
      try {
        work = await this.#receiver.receive(delivery);
      } catch (error) {
        const shown = shownId(delivery.envelope.messageId);
        this.#source.log.error(`${delivery.queue}: message ${shown} was not answered`, error);
        await delivery.giveBack();
      }
      if (work === undefined) continue;
      if (this.ended) {
        await work.giveBack();
        break;
      }
      for (const taken of this.#taken) if (taken.settled) this.#taken.delete(taken);
      this.#taken.add(work);
      return { done: false, value: new Item<Data>(this.#source, work) };
    }
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Item<Data>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** End the iteration, and give back unhandled messages. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#filled.set();
    if (this.#opening === undefined) return;
    // Without a connection it takes long to open: its end does not wait for that.
    const ended = this.#opening.then(
      () => this.#end(),
      () => undefined, // `next` has told it
    );
    if (this.#open) await ended;
  }

  async #end(): Promise<void> {
    await this.#receiver.cancel();
    await Promise.all([...this.#taken].filter((work) => !work.settled).map((work) => work.giveBack()));
    await this.#receiver.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
