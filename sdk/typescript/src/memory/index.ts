/** An in-memory broker for tests of applications: one tenant's vhost, with the platform's topology and policies. */

import type { Catalog } from "../catalog.ts";
import { checkedPatience, shown } from "../checks.ts";
import { MessagingClient } from "../client.ts";
import { ConfigurationError } from "../errors.ts";
import type { ClientOptions } from "../facade.ts";
import type { Envelope } from "../message.ts";
import { CATALOG } from "../modules.ts";
import { Names, TENANT_ID } from "../naming.ts";
import { nearest } from "../nearest.ts";
import type { MemoryQueue } from "./queue.ts";
import { expand } from "./topology.ts";
import { MemoryTransport, MemoryVhost } from "./transport.ts";

const REMEDY = "Pass a tenant that tenants.yaml accepts";

/** The tenant of a memory broker, and how fast its time passes. */
export interface MemoryOptions {
  /** Default: `memory`. */
  readonly tenant?: string | undefined;
  /** The tenant's modules. Default: the whole catalog. */
  readonly modules?: readonly string[] | undefined;
  /** Default: `enterprise`. */
  readonly plan?: string | undefined;
  readonly catalog?: Catalog | undefined;
  /** Scales all waiting times: with 0.01 a retry after one second comes after ten milliseconds. Default: 1. */
  readonly delay?: number | undefined;
}

/** A broker for tests, without a service or a network. Throws ConfigurationError for an invalid tenant. */
export class MemoryBroker {
  readonly catalog: Catalog;
  readonly names: Names;
  readonly #vhost: MemoryVhost;

  constructor(options: MemoryOptions = {}) {
    const { tenant = "memory", plan = "enterprise", catalog = CATALOG, delay = 1 } = options;
    const { modules = Object.keys(catalog.modules) } = options;
    if (!new RegExp(`^${TENANT_ID}$`).test(tenant)) {
      throw new ConfigurationError(`tenant: ${shown(tenant)} is not a valid tenant ID`, { remedy: REMEDY });
    }
    checkKnown("modules", modules, Object.keys(catalog.modules));
    checkKnown("plan", [plan], Object.keys(catalog.plans));
    this.catalog = catalog;
    this.names = new Names(tenant);
    this.#vhost = new MemoryVhost(expand(this.names, modules, plan, catalog), checkedPatience("delay", delay));
  }

  /** Return a client of this broker. */
  async connect(options: ClientOptions & { readonly application?: string } = {}): Promise<MessagingClient> {
    const { application = "test", catalog = this.catalog } = options;
    const transport = new MemoryTransport(this.#vhost);
    const client = new MessagingClient(transport, this.names.tenantId, { ...options, application, catalog });
    await client.ready();
    return client;
  }

  /** Return the messages waiting in an action's queue, the next one first. */
  messages(module: string, action: string): Envelope[] {
    return this.#queue(this.names.queue(module, action)).ready;
  }

  /** Return the messages in an action's dead-letter queue, the oldest first. */
  deadLetters(module: string, action: string): Envelope[] {
    return this.#queue(this.names.deadLetterQueue(module, action)).ready;
  }

  /** Messages without a queue. */
  get unrouted(): Envelope[] {
    return this.#queue(this.names.unrouted).ready;
  }

  #queue(name: string): MemoryQueue {
    const queue = this.#vhost.queues.get(name);
    if (queue !== undefined) return queue;
    throw new ConfigurationError(`there is no queue ${name}`, { remedy: "Name a module and an action of the tenant" });
  }

  /** Be unreachable until `comeBack`: sends wait, and reject with NotConnected at their deadline. */
  goAway(): void {
    this.#vhost.up = false;
  }

  /** Be reachable again. */
  comeBack(): void {
    this.#vhost.up = true;
  }

  /** Cancel all timers. */
  close(): void {
    this.#vhost.close();
  }
}

function checkKnown(name: string, given: readonly string[], known: readonly string[]): void {
  for (const each of given) {
    if (known.includes(each)) continue;
    throw new ConfigurationError(`${name}: unknown ${shown(each)}; ${nearest(each, known)}`, { remedy: REMEDY });
  }
}
