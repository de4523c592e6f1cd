/** Consuming over a link: renew the subscription after every break, and answer each delivery once. */

import { AccessRefused, NotConnected, NotRoutable } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Header } from "../message.ts";
import type { Deliver, Subscription } from "../transport.ts";
import { AmqpDelivery, Handout, type Unanswered } from "./delivery.ts";
import type { Link, User } from "./link.ts";
import { Flag, pause, seconds, TooLate, Turn, within } from "./waiting.ts";
import type { Lane, Received, Wire } from "./wire.ts";

const PAUSE_MS = 200;
const MAX_PAUSE_MS = 5_000;
/** Time for an answer of the broker. After that the connection is dead. */
const ANSWER_MS = 5_000;
const ASK_AGAIN_MS = 500;
const TIMEOUT_ARGUMENT = "x-consumer-timeout";

const ACCESS_REFUSED = 403;
const NOT_FOUND = 404;
const PRECONDITION_FAILED = 406;

/** What a subscription consumes, and how. */
export interface Wanted {
  readonly queues: readonly string[];
  readonly prefetch: number;
  readonly deliver: Deliver;
  /** Seconds for each answer, whatever the limit of the broker or a policy. */
  readonly answerWithin: number;
}

/** A channel consuming some queues, opened again when it breaks. */
export class AmqpSubscription implements Subscription, User {
  answers = 0;
  readonly #link: Link;
  readonly #wanted: Wanted;
  readonly #unanswered: Unanswered;
  readonly #log: Logger;
  /** Held while the subscription changes: two channels at once would leave one that nobody ever closes. */
  readonly #renewing = new Turn();
  /** Set once the current handout has ended. */
  readonly #broken = new Flag();
  /** Set once nothing more is wanted: no end waits for a connection. */
  readonly #stopped = new Flag();
  #timeout: number | undefined;
  #handout: Handout | undefined;
  #keeping = false;
  #asking = 0;
  #doubted = false;
  /** True once the broker has let a request go unanswered: the connection is dead. */
  #isDeaf = false;

  constructor(link: Link, wanted: Wanted, unanswered: Unanswered, log: Logger) {
    this.#link = link;
    this.#wanted = wanted;
    this.#unanswered = unanswered;
    this.#log = log;
    this.#timeout = Math.floor(wanted.answerWithin * 1000);
    link.add(this);
  }

  get waiting(): boolean {
    return this.#asking > 0 || this.#doubted;
  }

  get #named(): string {
    return this.#wanted.queues[0]!;
  }

  /** Subscribe, repeatedly if the connection breaks. Rejects with NotConnected, NotRoutable or AccessRefused. */
  async open(ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    const queues = this.#wanted.queues;
    for (;;) {
      try {
        await this.#subscribe(deadline - performance.now());
        this.#keeping = true;
        void this.#keep();
        return;
      } catch (error) {
        const code = (error as { code?: unknown }).code;
        if (code === NOT_FOUND) throw new NotRoutable(`there is no queue ${queues.join(" or ")}`, { cause: error });
        if (code === ACCESS_REFUSED) {
          throw new AccessRefused(`no permission to consume ${queues.join(", ")}`, { cause: error });
        }
        if (error instanceof NotConnected) throw error;
        if (performance.now() + PAUSE_MS >= deadline) {
          throw new NotConnected(`no subscription to ${queues.join(", ")} within ${seconds(ms)}`, { cause: error });
        }
        await pause(PAUSE_MS);
      }
    }
  }

  /** Consume over the link's connection, once. On failure nothing is left behind. */
  async #subscribe(ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    const wire = await this.#link.wire(ms, this.#stopped);
    this.#asking++;
    let given = false;
    let lane: Lane | undefined;
    const consuming = wire.lane(false).then(async (opened) => {
      lane = opened;
      if (given) await opened.close();
      else await this.#consume(opened);
    });
    try {
      await within(consuming, deadline - performance.now(), this.#stopped);
      this.answers++;
    } catch (error) {
      given = true;
      void lane?.close();
      throw error;
    } finally {
      this.#asking--;
    }
    if (!this.#link.offers(wire)) this.#lostOn(wire);
  }

  #lostOn(wire: Wire): void {
    if (wire.isEnded && this.#handout !== undefined) this.#end(this.#handout, "the connection is lost");
  }

  async #consume(lane: Lane): Promise<void> {
    const { queues, prefetch } = this.#wanted;
    const handout = new Handout(lane);
    lane.onDelivery = (received) => this.#receive(received, queues[Number(received.consumer)]!, handout);
    lane.onEnd = (reason) => this.#end(handout, reason?.message ?? "the channel was closed");
    this.#handout = handout;
    this.#isDeaf = false;
    this.#broken.clear();
    await lane.channel.prefetch(prefetch);
    const options = this.#timeout === undefined ? {} : { arguments: { [TIMEOUT_ARGUMENT]: this.#timeout } };
    const cancelled = (message: unknown) => {
      if (message === null) this.#end(handout, "the broker has cancelled the consumer");
    };
    try {
      for (const [number, queue] of queues.entries()) {
        await lane.channel.consume(queue, cancelled, { ...options, consumerTag: String(number) });
      }
      handout.consuming = true;
    } catch (error) {
      const { code, message } = error as { code?: unknown; message: string };
      if (this.#timeout !== undefined && code === PRECONDITION_FAILED && message.includes(TIMEOUT_ARGUMENT)) {
        this.#log.warn(`${this.#named}: this broker does not support consumer timeouts; its own limit applies`);
        this.#timeout = undefined;
      }
      throw error;
    }
  }

  /** Keep the deliveries being handled: their answers wait for the next delivery of the message. */
  #end(handout: Handout, reason: string): void {
    if (handout.isOver) return;
    const { handling, waiting } = handout.end();
    const isLost = handout === this.#handout && handout.consuming;
    if (handout === this.#handout) this.#broken.set();
    if (!isLost && handling.length === 0 && waiting === 0) return; // moved away from, and done; or never consuming
    if (!this.#keeping) return; // closed on purpose: other consumers may handle the messages
    this.#unanswered.keep(handling);
    this.#log.warn(
      `${this.#named}: subscription lost (${reason}), subscribing again; the answers of ${handling.length} messages ` +
        `wait for their redelivery, ${waiting} waiting messages are dropped`,
    );
  }

  #receive(received: Received, queue: string, handout: Handout): void {
    this.answers++;
    const delivery = new AmqpDelivery(received, queue, handout, this.#log);
    const unreadable = received.headers[Header.UNREADABLE];
    if (unreadable !== undefined) {
      this.#log.warn(`${queue}: a message with unreadable properties is a dead letter: ${String(unreadable)}`);
      void delivery.reject({ requeue: false });
      return;
    }
    const earlier = this.#unanswered.pop(delivery);
    if (earlier !== undefined) earlier.takeOver(received, handout);
    else this.#wanted.deliver(delivery);
  }

  async #keep(): Promise<void> {
    let ms = PAUSE_MS;
    let logged = "";
    while (this.#keeping) {
      await this.#broken.wait();
      await this.#renewing.take(async () => {
        if (!this.#keeping || !this.#broken.isSet) return; // moved meanwhile
        await this.#leave();
        await pause(ms, this.#stopped);
        if (!this.#keeping) return;
        try {
          await this.#subscribe(MAX_PAUSE_MS * 2);
          this.#log.warn(`${this.#named}: subscribed again`);
          ms = PAUSE_MS;
          logged = "";
        } catch (error) {
          if (!this.#keeping) return;
          const { name, message } = error as Error;
          if (logged !== name) {
            logged = name;
            this.#log.warn(`${this.#named}: not subscribed yet, trying again: ${name}: ${message}`);
          }
          this.#broken.set();
          ms = Math.min(ms * 2, MAX_PAUSE_MS);
        }
      });
    }
  }

  /** Ask a queue for its consumers: there is one, but a node that can't reach the queue's leader counts none. */
  async ask(): Promise<void> {
    const handout = this.#handout;
    this.#doubted = this.#keeping && handout !== undefined && !handout.ended;
    while (this.#doubted && handout !== undefined && handout === this.#handout && !handout.ended) {
      try {
        const { consumerCount } = await within(handout.lane.channel.checkQueue(this.#named), ANSWER_MS);
        if (consumerCount > 0) {
          this.answers++;
          break;
        }
      } catch {
        if (handout.ended) break;
      }
      await pause(ASK_AGAIN_MS);
    }
    this.#doubted = false;
  }

  lost(): void {
    this.#doubted = false;
    if (this.#handout !== undefined) this.#end(this.#handout, "the connection is lost");
  }

  /** Consume over the link's new connection. Wait for the answers to what has come over the old one. */
  async move(): Promise<void> {
    const handout = this.#handout;
    await this.#renewing.take(async () => {
      if (!this.#keeping || handout === undefined || this.#broken.isSet) return; // `#keep` subscribes anyway
      await this.#cancel(handout.lane);
      try {
        await this.#subscribe(ANSWER_MS);
      } catch {
        this.#broken.set();
      }
    });
    if (handout === undefined || handout.ended || handout.open.size === 0) return;
    await new Promise<void>((resolve) => {
      handout.emptied = resolve;
    });
  }

  async cancel(): Promise<void> {
    this.#stopKeeping();
    await this.#renewing.take(async () => {
      if (this.#handout !== undefined) await this.#cancel(this.#handout.lane);
    });
  }

  async #cancel(lane: Lane): Promise<void> {
    const deadline = performance.now() + ANSWER_MS;
    for (const number of this.#wanted.queues.keys()) {
      if (lane.ended) return;
      const left = deadline - performance.now();
      await within(lane.channel.cancel(String(number)), left).catch((error: unknown) => {
        this.#isDeaf ||= error instanceof TooLate;
      });
    }
  }

  async close(): Promise<void> {
    this.#link.remove(this);
    this.#stopKeeping();
    await this.#renewing.take(() => this.#leave());
  }

  #stopKeeping(): void {
    this.#keeping = false;
    this.#stopped.set();
    this.#broken.set();
  }

  async #leave(): Promise<void> {
    const handout = this.#handout;
    this.#handout = undefined;
    if (handout !== undefined && !handout.lane.ended && !this.#isDeaf) {
      await within(handout.lane.close(), ANSWER_MS).catch(() => undefined);
    }
  }
}
