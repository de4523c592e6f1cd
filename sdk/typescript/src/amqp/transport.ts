/**
 * The transport over AMQP: one connection to publish and one to consume, each opened when first needed.
 *
 * When the broker throttles publishers, acknowledgements still get through on the other connection.
 */

import type { SecureContextOptions } from "node:tls";
import type { Address } from "../configuration.ts";
import { AccessRefused, closed, NotConnected } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Envelope } from "../message.ts";
import type { Deliver, QueueFigures, Server, Subscription, Transport } from "../transport.ts";
import { Unanswered } from "./delivery.ts";
import { notConnected } from "./failures.ts";
import { queueFigures } from "./figures.ts";
import { Link, type LinkOptions, type User } from "./link.ts";
import { hostPort, type Node } from "./node.ts";
import { Publisher } from "./publisher.ts";
import { AmqpSubscription } from "./subscription.ts";
import { pause, seconds, TooLate, Turn, within } from "./waiting.ts";
import type { Lane } from "./wire.ts";

const PAUSE_MS = 50;
const ACCESS_REFUSED = 403;
const NOT_FOUND = 404;

/** What a transport is made of. */
export interface AmqpOptions {
  readonly address: Address;
  /** The name of its connections, shown by the broker. */
  readonly name: string;
  /** Seconds. */
  readonly heartbeat: number;
  readonly log: Logger;
  /** Replaces the trust of the address. */
  readonly tls?: SecureContextOptions | undefined;
  /** For tests: ms before the first attempt to go back to the own node. */
  readonly awayMs?: number | undefined;
}

/** A tenant's vhost on RabbitMQ. */
export class AmqpTransport implements Transport, User {
  answers = 0;
  readonly #options: AmqpOptions;
  readonly #link: LinkOptions;
  readonly #links: Link[] = [];
  readonly #opening = new Turn();
  readonly #questions = new Turn();
  readonly #unanswered = new Unanswered();
  #unused: Link | undefined;
  #publisher: Publisher | undefined;
  #consuming: Link | undefined;
  #questionLane: Lane | undefined;
  #asking = 0;
  /** The last link that was opened, or is being opened. */
  #opened: Link | undefined;
  #closed = false;

  /** Throws ConfigurationError. */
  constructor(options: AmqpOptions) {
    const { address } = options;
    this.#options = options;
    this.#link = {
      nodes: nodesOf(address),
      place: `${address.scheme}://${address.nodes.map(hostPort).join(",")}${address.vhost}`,
      name: options.name,
      tls: options.tls ?? (needsTrust(address) ? address.tls() : {}),
      heartbeat: options.heartbeat,
      log: options.log,
      awayMs: options.awayMs,
    };
  }

  /** Connect, within so many seconds. Rejects with AccessRefused at once, with NotConnected at the deadline. */
  async open(timeout: number): Promise<void> {
    this.#unused = await this.#linked(timeout * 1000);
  }

  /** Return the unused link of `open`, or a new one. */
  async #linked(ms: number): Promise<Link> {
    if (this.#closed) throw closed();
    const unused = this.#unused;
    this.#unused = undefined;
    if (unused !== undefined) return unused;
    const link = new Link(this.#link);
    this.#opened = link;
    if (this.#links.length === 0) link.add(this); // for the questions
    link.onDead((node) => {
      for (const each of this.#links) each.suspect(node);
    });
    await link.open(ms);
    this.#links.push(link);
    return link;
  }

  get connected(): boolean {
    return this.#links.length > 0 && this.#links.every((link) => link.connected);
  }

  get server(): Server {
    const { host, port } = this.#links[0]?.node ?? this.#link.nodes[0]!;
    return { host, port };
  }

  /** The connections' own nodes and those they are on, for tests. */
  get nodes(): readonly { readonly home: Node; readonly now: Node }[] {
    return this.#links.map((link) => ({ home: link.home, now: link.node }));
  }

  get waiting(): boolean {
    return this.#asking > 0;
  }

  /** Ask nothing: senders ask. */
  ask(): Promise<void> {
    return Promise.resolve();
  }

  lost(): void {
    this.#questionLane = undefined;
  }

  /** Ask the next question over the new connection. One that is under way is asked again if it is cut off. */
  move(): Promise<void> {
    this.#questionLane = undefined;
    return Promise.resolve();
  }

  publish(envelope: Envelope, timeout: number): Promise<void> {
    const publisher = this.#publisher;
    if (publisher !== undefined) return publisher.publish(envelope, timeout * 1000);
    return this.#firstPublish(envelope, timeout * 1000);
  }

  async #firstPublish(envelope: Envelope, ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    await this.#inTurn(ms, async (left) => {
      this.#publisher ??= new Publisher(await this.#linked(left));
    });
    await this.#publisher!.publish(envelope, deadline - performance.now());
  }

  /** Open one link at a time. Rejects with NotConnected at the caller's own deadline. */
  async #inTurn(ms: number, work: (left: number) => Promise<void>): Promise<void> {
    const deadline = performance.now() + ms;
    try {
      await within(
        this.#opening.take(() => work(deadline - performance.now())),
        ms + PAUSE_MS,
      );
    } catch (error) {
      if (!(error instanceof TooLate)) throw error;
      throw new NotConnected(`no connection to ${this.#link.place} within ${seconds(ms)}`);
    }
  }

  async subscribe(
    queues: readonly string[],
    prefetch: number,
    deliver: Deliver,
    timeout: number,
    answerWithin: number,
  ): Promise<Subscription> {
    const deadline = performance.now() + timeout * 1000;
    await this.#inTurn(timeout * 1000, async (left) => {
      this.#consuming ??= await this.#linked(left);
    });
    const wanted = { queues, prefetch, deliver, answerWithin };
    const subscription = new AmqpSubscription(this.#consuming!, wanted, this.#unanswered, this.#options.log);
    try {
      await subscription.open(deadline - performance.now());
    } catch (error) {
      await subscription.close();
      throw error;
    }
    return subscription;
  }

  /** Ask with a passive declaration: it needs any permission on the queue. A missing queue closes the channel. */
  async hasQueue(queue: string, timeout: number): Promise<boolean> {
    const deadline = performance.now() + timeout * 1000;
    try {
      return await within(
        this.#questions.take(() => this.#asked(queue, deadline)),
        timeout * 1000,
      );
    } catch (error) {
      if (!(error instanceof TooLate)) throw error;
      const link = this.#links[0]!;
      if (!link.connected) throw link.missing(timeout * 1000);
      throw new NotConnected(
        `${this.#link.place} did not say within ${seconds(timeout * 1000)} whether it has ${queue}`,
      );
    }
  }

  async #asked(queue: string, deadline: number): Promise<boolean> {
    for (;;) {
      const left = deadline - performance.now();
      const wire = await this.#links[0]!.wire(left);
      this.#asking++;
      try {
        this.#questionLane = this.#questionLane?.ended === false ? this.#questionLane : await wire.lane(false);
        await within(this.#questionLane.channel.checkQueue(queue), left);
        this.answers++;
        return true;
      } catch (error) {
        const code = (error as { code?: unknown }).code;
        if (error instanceof TooLate) throw error;
        this.#questionLane = undefined;
        if (code === NOT_FOUND) {
          this.answers++;
          return false;
        }
        if (code === ACCESS_REFUSED) {
          const { username } = this.#options.address;
          const remedy = "Check that the queue belongs to the tenant, and that the tenant is not suspended";
          throw new AccessRefused(`${username} has no permission to look for the queue ${queue}`, {
            remedy,
            cause: error,
          });
        }
      } finally {
        this.#asking--;
      }
      await pause(PAUSE_MS);
    }
  }

  queues(timeout: number): Promise<readonly QueueFigures[]> {
    return queueFigures(this.#options.address, this.#link.tls, timeout);
  }

  async ping(timeout: number): Promise<void> {
    try {
      await within(this.#pinged(timeout * 1000), timeout * 1000);
    } catch (error) {
      if (error instanceof NotConnected) throw error;
      if (error instanceof TooLate) {
        throw new NotConnected(`${this.#link.place} did not answer within ${timeout} s`);
      }
      throw notConnected(this.#link.nodes[0]!, error);
    }
  }

  async #pinged(ms: number): Promise<void> {
    for (const link of this.#links) {
      const wire = await link.wire(ms);
      const lane = await wire.lane(false);
      await lane.close();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const links = this.#opened === undefined ? this.#links : new Set([...this.#links, this.#opened]);
    await Promise.all(Array.from(links, (link) => link.close()));
  }
}

/** Return true if something is verified: to read the system's CAs takes a tenth of a second. */
function needsTrust(address: Address): boolean {
  const urls = [`${address.scheme}:`, ...address.managementUrls];
  return address.caCertificate !== "" || urls.some((url) => url.startsWith("amqps:") || url.startsWith("https:"));
}

function nodesOf(address: Address): Node[] {
  const { scheme, username, vhost, external } = address;
  return address.nodes.map(({ host, port }) => ({
    scheme,
    host,
    port,
    username,
    password: address.password(),
    vhost,
    external,
  }));
}
