/** Run a handler: a bounded number of messages at a time, each within its timeout, stopped without losing one. */

import { Flag, pause, seconds } from "../amqp/waiting.ts";
import { checkedPatience, readable } from "../checks.ts";
import { Reject, Retry } from "../errors.ts";
import { type Message, shownId } from "../message.ts";
import { type Operation, processing } from "../tracing.ts";
import { ANSWER_WITHIN_S, type Delivery } from "../transport.ts";
import { Receiver } from "./receiver.ts";
import { deadLetterQueueOf, queuesOf, type Source, type Work } from "./work.ts";

/** Handles a message, which is done once this has returned. Throw `Retry` or `Reject` for another outcome. */
export type Handler<Data = unknown> = (message: Message<Data>) => unknown;

/** Seconds. */
export const MAX_HANDLER_S = 86_400;
/** Enough for a handler of the longest kind behind one in each lane of its action. */
const MAX_ANSWER_S = 5 * MAX_HANDLER_S;
/** Time for a message besides its handler: claim, remember, move. */
const OVERHEAD_S = 30;
/** How often the handlers' deadlines are looked at: one timer for all messages, after what has come meanwhile is read. */
const SWEEP_MS = 50;

/**
 * Return the prefetch of each queue, and the seconds within which its last message is answered.
 *
 * The broker's own limit (30 minutes, or a policy's) does not know the handler: it takes messages back and delivers
 * them again, for ever. So each consumer asks for the time it needs, and for no more messages than fit into it. Without
 * a handler timeout that time is a day.
 */
export function planPrefetch(
  prefetch: number,
  concurrency: number,
  queues: number,
  handlerTimeout: number | undefined,
): { prefetch: number; within: number } {
  if (handlerTimeout === undefined) return { prefetch, within: ANSWER_WITHIN_S };
  const each = handlerTimeout + OVERHEAD_S;
  const fitting = Math.floor((Math.floor(MAX_ANSWER_S / each) * concurrency) / queues);
  const planned = Math.max(Math.min(prefetch, fitting), 1);
  return { prefetch: planned, within: Math.max(Math.ceil((planned * queues) / concurrency) * each, ANSWER_WITHIN_S) };
}

/** A handler at work on one message. */
interface Run {
  readonly work: Work;
  readonly operation: Operation | undefined;
  readonly deadline: number;
  /** True once the outcome counts: the handler's own, or that of its timeout. */
  decided: boolean;
}

/** Frees the place of a message. */
interface End {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The failure of a handler that takes too long. */
class HandlerTimedOut extends Error {
  override readonly name = "HandlerTimedOut";
}

/** A running handler. Created by `MessagingClient.consume`. */
export class Consumer {
  handled = 0;
  retried = 0;
  rejected = 0;
  readonly #source: Source;
  readonly #handler: Handler<never>;
  readonly #concurrency: number;
  readonly #timeoutMs: number;
  readonly #receiver: Receiver;
  readonly #runs = new Set<Run>();
  readonly #ends = new Map<Run, End>();
  readonly #idle = new Flag();
  readonly #stopped = new Flag();
  #active = 0;
  #stopping: Promise<void> | undefined;
  #sweeper: NodeJS.Timeout | undefined;
  #filling = false;
  /** True once no handler may begin: a claim may take longer than the time to stop. */
  #isOver = false;

  /** `handlerTimeout` is seconds; undefined: none. */
  constructor(source: Source, handler: Handler<never>, concurrency: number, handlerTimeout: number | undefined) {
    this.#source = source;
    this.#handler = handler;
    this.#concurrency = concurrency;
    this.#timeoutMs = handlerTimeout === undefined ? Number.POSITIVE_INFINITY : handlerTimeout * 1000;
    this.#receiver = new Receiver(source, () => this.#fill());
  }

  get route(): string {
    return `${this.#source.module}.${this.#source.action}`;
  }

  /** The number of messages being handled now. */
  get inProgress(): number {
    return this.#active;
  }

  /** True once the consumer has ended and holds no message. */
  get stopped(): boolean {
    return this.#stopped.isSet;
  }

  /** The number of messages skipped because they had been handled before. */
  get duplicates(): number {
    return this.#receiver.duplicates;
  }

  /** The number of messages that are unreadable or do not fit the model, now dead letters. */
  get undecodable(): number {
    return this.#receiver.undecodable;
  }

  /** Subscribe. `timeout` is seconds. Rejects with NotConnected, NotRoutable or AccessRefused. */
  async start(prefetch: number, timeout: number): Promise<void> {
    const handlerTimeout = Number.isFinite(this.#timeoutMs) ? this.#timeoutMs / 1000 : undefined;
    const plan = planPrefetch(prefetch, this.#concurrency, queuesOf(this.#source).length, handlerTimeout);
    await this.#receiver.open(plan.prefetch, timeout, plan.within);
  }

  /**
   * Take no more messages, let handlers finish for `timeout` seconds, and give back the rest.
   *
   * A second call waits for the same end; the timeout of the first call applies.
   */
  stop(timeout = 30): Promise<void> {
    try {
      checkedPatience("timeout", timeout);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#stopping ??= this.#stop(timeout * 1000);
    return this.#stopping;
  }

  async #stop(ms: number): Promise<void> {
    await this.#receiver.cancel();
    if (this.#active > 0) {
      this.#idle.clear();
      await pause(ms, this.#idle);
    }
    this.#isOver = true;
    const late = [...this.#runs].filter((run) => !run.decided);
    if (late.length > 0) {
      this.#source.log.warn(`${this.route}: giving back ${late.length} messages not handled within ${seconds(ms)}`);
    }
    for (const run of late) run.decided = true;
    await Promise.all(late.map((run) => run.work.giveBack()));
    clearInterval(this.#sweeper);
    await this.#receiver.close();
    this.#stopped.set();
  }

  /** Wait until the consumer is stopped. */
  wait(): Promise<void> {
    return this.#stopped.wait();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Begin with messages that wait, as far as there is room. */
  #fill(): void {
    if (this.#filling) return;
    this.#filling = true;
    while (this.#active < this.#concurrency) {
      const delivery = this.#receiver.take();
      if (delivery === undefined) break;
      this.#active++;
      void this.#process(delivery);
    }
    this.#filling = false;
  }

  async #process(delivery: Delivery): Promise<void> {
    let work: Work | undefined;
    try {
      const received = this.#receiver.receive(delivery);
      work = received instanceof Promise ? await received : received;
      if (work !== undefined) await (this.#isOver ? work.giveBack() : this.#handle(work));
    } catch (error) {
      // Answers never reject, and handlers are caught: this is a bug of ours, and must not cost a place.
      this.#source.log.error(`${this.route}: message ${shownId(delivery.envelope.messageId)} was not answered`, error);
      await (work ?? delivery).giveBack();
    }
    this.#active--;
    if (this.#active === 0) this.#idle.set();
    this.#fill();
  }

  /** Handle a message and answer it. Resolves when its place is free: after its timeout the handler goes on unseen. */
  async #handle(work: Work): Promise<void> {
    const { message } = work;
    work.begin();
    const operation = processing(message, this.#source.transport.server);
    const run: Run = { work, operation, deadline: performance.now() + this.#timeoutMs, decided: false };
    let result: unknown;
    try {
      const call = () => this.#handler(message as Message<never>);
      result = operation === undefined ? call() : operation.within(call);
      if (!isThenable(result)) {
        operation?.end();
        await this.#done(work);
        return;
      }
    } catch (error) {
      await this.#failed(run, error);
      return;
    }
    await this.#awaited(run, result);
  }

  #awaited(run: Run, result: PromiseLike<unknown>): Promise<void> {
    this.#runs.add(run);
    this.#sweeper ??=
      this.#timeoutMs === Number.POSITIVE_INFINITY ? undefined : setInterval(setImmediate, SWEEP_MS, this.#sweep);
    return new Promise((resolve, reject) => {
      this.#ends.set(run, { resolve, reject });
      const failed = (error: unknown) => this.#decide(run, error, true);
      try {
        result.then(() => this.#decide(run, undefined, false), failed);
      } catch (error) {
        failed(error); // it is no promise, but somebody's object like one
      }
    });
  }

  /** Answer a message, unless that has been done: when its handler ends, or is too late. */
  #decide(run: Run, error: unknown, failed: boolean): void {
    const end = this.#ends.get(run);
    this.#ends.delete(run);
    this.#runs.delete(run);
    if (end === undefined) return;
    if (run.decided) {
      run.operation?.end();
      end.resolve(); // given back meanwhile
      return;
    }
    run.decided = true;
    if (!failed) run.operation?.end();
    void (failed ? this.#failed(run, error) : this.#done(run.work)).then(end.resolve, end.reject);
  }

  readonly #sweep = (): void => {
    const now = performance.now();
    for (const run of this.#runs) {
      if (run.deadline > now) break; // they are in order
      const problem = `the handler took longer than ${seconds(this.#timeoutMs)}`;
      this.#decide(run, new HandlerTimedOut(problem), true);
    }
    if (this.#runs.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }
  };

  #done(work: Work): Promise<void> {
    this.handled++;
    return work.done();
  }

  async #failed(run: Run, given: unknown): Promise<void> {
    const { work, operation } = run;
    const error = readable(given);
    operation?.failed(error);
    operation?.end();
    if (error instanceof Reject) {
      const where = deadLetterQueueOf(this.#source);
      const shown = shownId(work.message.messageId);
      this.#source.log.warn(`${this.route}: message ${shown}, now a dead letter in ${where}: ${error.reason}`);
      await work.reject(error.reason);
      this.rejected++;
      return;
    }
    const retry = error instanceof Retry;
    const text =
      `${this.route}: attempt ${work.message.attempt} at message ${shownId(work.message.messageId)} ` +
      `${retry ? "asks for a retry" : "failed"}; ${work.prospect}`;
    if (retry && work.attemptsLeft > 0) this.#source.log.info(text);
    else this.#source.log.warn(text, retry ? undefined : error);
    await work.retry();
    this.retried++;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
