/** MessagingClient: send and consume the messages of one tenant. All times are seconds. */

import { basename, extname } from "node:path";
import type { SecureContextOptions } from "node:tls";
import { AmqpTransport } from "./amqp/transport.ts";
import { Flag, within } from "./amqp/waiting.ts";
import type { AuditRecord } from "./audit.ts";
import type { Catalog } from "./catalog.ts";
import {
  checkCatalog,
  checkedCount,
  checkedPatience,
  checkedSeconds,
  checkHandler,
  checkMethods,
  checkModule,
  checkRoute,
  checkText,
  readOptions,
  shown,
  typeName,
} from "./checks.ts";
import { checkCompression, MAX_BYTES } from "./compression.ts";
import { type Address, type AddressOptions, findAddress } from "./configuration.ts";
import { Consumer, type Handler, MAX_HANDLER_S } from "./consuming/consumer.ts";
import { Stream } from "./consuming/stream.ts";
import type { Source } from "./consuming/work.ts";
import { ConfigurationError, closed } from "./errors.ts";
import {
  BATCH_OPTIONS,
  type BatchOptions,
  BROADCAST_OPTIONS,
  type BroadcastOptions,
  type ClientOptions,
  CONSUME_OPTIONS,
  type ConsumeOptions,
  Facade,
  type FacadeClient,
  Facades,
  SEND_OPTIONS,
  STREAM_OPTIONS,
  type StreamOptions,
  type TimedSendOptions,
} from "./facade.ts";
import { LearnedRouter } from "./learned/router.ts";
import { guarded, type Logger, standardLogger } from "./log.ts";
import { isPrintable, type Outgoing, type SendResult } from "./message.ts";
import { type Model, modelOf } from "./model.ts";
import { type ActionNames, CATALOG, type ModuleName } from "./modules.ts";
import { Names } from "./naming.ts";
import { Postgres } from "./postgres.ts";
import { Reach } from "./reach.ts";
import { Rules, SafeRouter } from "./routing.ts";
import { type Batch, Sender } from "./sender.ts";
import { type QueueStats, readStats } from "./stats.ts";
import type { Transport } from "./transport.ts";
import { Writer } from "./writer.ts";

/** The largest prefetch in AMQP. */
const MAX_PREFETCH = 65_535;
/** Each message names its application. AMQP has room for so many bytes. */
const MAX_NAME_BYTES = 255;
const USUAL_HEARTBEAT_S = 60;
/** Where there is another node to go to. */
const QUICK_HEARTBEAT_S = 10;
/** With this value a dead connection is noticed after 18 hours. */
const MAX_HEARTBEAT_S = 21_600;
const USUAL_TIMEOUT_S = 10;
const NO_LIMIT_LEASE_S = 3_600;
const CLOSE_S = 30;
/** Time for the idempotency store to close. */
const STORE_CLOSE_MS = 5_000;

/** How to find the broker, and options of the client. */
export interface ConnectOptions extends AddressOptions, ClientOptions {
  /** The name of the connection, and of the sender of its messages. Default: the name of the running program. */
  readonly application?: string | undefined;
  /** Replaces the CA to trust and the tenant's certificate, for `amqps://` and the management API. */
  readonly tls?: SecureContextOptions | undefined;
  /** Seconds, default 60, with several addresses 10. A connection without traffic for three times as long is dead. */
  readonly heartbeat?: number | undefined;
  /** Seconds to wait for the first connection. Default: 10. */
  readonly timeout?: number | undefined;
}

const CONNECT_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({
    amqpUri: true,
    outputs: true,
    tenant: true,
    application: true,
    timeout: true,
    heartbeat: true,
    addresses: true,
    prefetch: true,
    caFile: true,
    tls: true,
    managementUrl: true,
    catalog: true,
    compression: true,
    router: true,
    routerTimeout: true,
    idempotency: true,
    audit: true,
    maxBytes: true,
    logger: true,
  } satisfies Record<keyof ConnectOptions, true>),
);

/** Send and consume a tenant's messages, and read its queue figures. Create it with `connect`. */
export class MessagingClient extends Facades implements FacadeClient, AsyncDisposable {
  readonly #transport: Transport;
  readonly #names: Names;
  readonly #catalog: Catalog;
  readonly #options: ClientOptions;
  readonly #log: Logger;
  readonly #prefetch: number;
  readonly #maxBytes: number;
  readonly #auditor: Writer<AuditRecord> | undefined;
  readonly #reach: Reach;
  readonly #sender: Sender;
  readonly #learned: LearnedRouter | undefined;
  readonly #routerTimeout: number;
  #ready = false;
  readonly #consumers = new Set<Consumer>();
  readonly #streams = new Set<Stream<never>>();
  #closing: Promise<void> | undefined;
  #closed = false;
  readonly #ending = new Flag();

  /** Use `connect` instead; it takes the same options. Throws ConfigurationError. */
  constructor(transport: Transport, tenantId: string, options: ClientOptions & { readonly application: string }) {
    super();
    const { application, compression = "zstd" } = options;
    checkApplication(application);
    checkMethods("router", options.router, "a router", ["decide"]);
    checkMethods("audit", options.audit, "an audit sink", ["write", "close"]);
    checkMethods("idempotency", options.idempotency, "a store", ["claim", "done", "release", "close"]);
    checkMethods("logger", options.logger, "a logger", ["info", "warn", "error"]);
    checkCompression(compression);
    checkCatalog(options.catalog);
    this.#options = options;
    this.#log = guarded(options.logger ?? standardLogger);
    this.#names = new Names(tenantId);
    this.#catalog = options.catalog ?? CATALOG;
    this.#transport = transport;
    this.#prefetch = checkedCount("prefetch", options.prefetch ?? 100, MAX_PREFETCH);
    this.#maxBytes = checkedCount("maxBytes", options.maxBytes ?? MAX_BYTES, MAX_BYTES);
    this.#auditor = options.audit && new Writer<AuditRecord>(options.audit, "audit records", this.#log);
    this.#reach = new Reach(transport);
    this.#routerTimeout = checkedSeconds("routerTimeout", options.routerTimeout ?? 1);
    this.#learned = options.router instanceof LearnedRouter ? options.router : undefined;
    this.#learned?.serve(tenantId, this.#log);
    const router = this.#learned === undefined ? options.router : undefined;
    this.#sender = new Sender({
      transport,
      names: this.#names,
      catalog: this.#catalog,
      application,
      router: new SafeRouter(router, new Rules(this.#catalog), this.#routerTimeout, this.#log),
      learned: this.#learned,
      compression,
      auditor: this.#auditor,
      maxBytes: this.#maxBytes,
      reach: this.#reach,
    });
  }

  /**
   * Connect to a tenant's vhost. Rejects with ConfigurationError, NotConnected or AccessRefused.
   *
   * The first address found wins: `amqpUri`, `outputs`, KRYONIX_AMQP_URI, KRYONIX_OUTPUTS.
   */
  static async connect(options: ConnectOptions = {}): Promise<MessagingClient> {
    if (typeof options !== "object" || options === null) {
      const remedy = 'Pass an object such as {amqpUri: "amqp://…"}, or nothing to use the environment';
      throw new ConfigurationError(`options: a ${typeof options} is not an object`, { remedy });
    }
    const own = readOptions(options, CONNECT_OPTIONS);
    return await MessagingClient.connectTo(findAddress(own), own);
  }

  /** Connect as `connect`, to an address that is known. */
  static async connectTo(address: Address, options: ConnectOptions = {}): Promise<MessagingClient> {
    const timeout = checkedSeconds("timeout", options.timeout ?? USUAL_TIMEOUT_S);
    const usual = address.nodes.length > 1 ? QUICK_HEARTBEAT_S : USUAL_HEARTBEAT_S;
    const heartbeat = checkedCount("heartbeat", options.heartbeat ?? usual, MAX_HEARTBEAT_S);
    const application = options.application ?? programName();
    checkApplication(application);
    checkTls(options.tls);
    const name = `${address.tenantId}/${application}`;
    checkMethods("logger", options.logger, "a logger", ["info", "warn", "error"]);
    const log = guarded(options.logger ?? standardLogger);
    const transport = new AmqpTransport({ address, name, heartbeat, log, tls: options.tls });
    // Without `pg`, fail here and not at the first message.
    for (const store of [options.idempotency, options.audit]) if (store instanceof Postgres) await store.pool();
    // Check the options before there is a connection to close.
    const client = new MessagingClient(transport, address.tenantId, { ...options, application });
    await transport.open(timeout);
    await client.ready(timeout);
    return client;
  }

  /**
   * Begin to load a learned router's model, and wait for it up to two seconds, at most `timeout`.
   *
   * `connect` does it. Without a model, or until it is there, the rules decide.
   */
  async ready(timeout = USUAL_TIMEOUT_S): Promise<void> {
    if (this.#learned === undefined || this.#ready || this.#closing !== undefined) return;
    this.#ready = true;
    await this.#learned.start(timeout, this.#routerTimeout);
  }

  get tenantId(): string {
    return this.#names.tenantId;
  }

  get catalog(): Catalog {
    return this.#catalog;
  }

  /** True while there is a connection. A lost connection is replaced automatically. */
  get connected(): boolean {
    return this.#closing === undefined && this.#transport.connected;
  }

  /** Number of audit records lost because the sink was too slow or failed. */
  get auditDropped(): number {
    return this.#auditor?.dropped ?? 0;
  }

  protected facade<Module extends ModuleName>(module: Module): Facade<ActionNames[Module]> {
    return new Facade(this, module, CATALOG.modules[module]!.defaultPriority);
  }

  /** Return the facade of any module, including one of a catalog of your own. */
  module(name: string): Facade<string> {
    const isKnown = typeof name === "string" && Object.hasOwn(this.#catalog.modules, name);
    const priority = isKnown ? this.#catalog.modules[name]!.defaultPriority : 5;
    return new Facade(this, name, priority);
  }

  /**
   * Send a message and wait, at most `timeout` seconds, until the broker has stored it.
   *
   * If the connection breaks, the message is published again with the same id. Rejects with UnknownRoute,
   * NotSerializable, ConfigurationError (nothing was sent), NotConnected, NotRoutable, QueueFull (not stored),
   * SendTimedOut (outcome unknown).
   */
  send<Module extends ModuleName>(
    module: Module,
    action: ActionNames[Module],
    data: unknown,
    options?: TimedSendOptions,
  ): Promise<SendResult> {
    let given: TimedSendOptions = {};
    try {
      if (options !== undefined) given = readOptions(options, SEND_OPTIONS);
    } catch (error) {
      return Promise.reject(error);
    }
    const { timeout, ...own } = given;
    return this.sendMessage({ ...own, module, action, data }, timeout);
  }

  /** Send as `send`, with everything in one object. */
  sendMessage(message: Outgoing, timeout = USUAL_TIMEOUT_S): Promise<SendResult> {
    if (this.#closed) return Promise.reject(closed());
    return this.#sender.send(message, timeout);
  }

  /**
   * Send many messages, `window` at a time (default: 256), without waiting for each confirmation before the next send.
   *
   * Messages are taken from the iterable as they are sent. `timeout` (seconds) applies to each message. A failure does
   * not stop the others: see `Batch.sent` and `Batch.failed`.
   */
  async sendMany(messages: Iterable<Outgoing> | AsyncIterable<Outgoing>, options: BatchOptions = {}): Promise<Batch> {
    if (this.#closed) throw closed();
    const { window = 256, timeout = USUAL_TIMEOUT_S } = readOptions(options, BATCH_OPTIONS);
    return await this.#sender.sendMany(messages, window, timeout);
  }

  /**
   * Send to every queue of the tenant's modules with AI routing.
   *
   * QueueFull means that at least one queue was full; others may have taken the message.
   */
  async broadcast(data: unknown, options: BroadcastOptions = {}): Promise<SendResult> {
    if (this.#closed) throw closed();
    const { messageId, timeout = USUAL_TIMEOUT_S } = readOptions(options, BROADCAST_OPTIONS);
    return await this.#sender.broadcast(data, messageId, timeout);
  }

  /**
   * Call `handler` with each message of an action, `concurrency` at a time, until the consumer is stopped.
   *
   * The message is done when the handler's promise resolves. `throw new Retry()`, any other error, or more than
   * `handlerTimeout` seconds is a failure: the message comes back later, and becomes a dead letter after the last
   * attempt. `throw new Reject(reason)` makes it a dead letter at once.
   *
   * Rejects with ConfigurationError, UnknownRoute, NotConnected or NotRoutable.
   */
  // biome-ignore lint/suspicious/noExplicitAny: data is whatever JSON holds, unless a model says more
  async consume<Data = any, Module extends ModuleName = ModuleName>(
    module: Module,
    action: ActionNames[Module],
    handler: Handler<Data>,
    given: ConsumeOptions<Data> = {},
  ): Promise<Consumer> {
    const options = readOptions(given, CONSUME_OPTIONS);
    const concurrency = checkedCount("concurrency", options.concurrency ?? 10, MAX_PREFETCH);
    const timeout = checkedSeconds("timeout", options.timeout ?? USUAL_TIMEOUT_S);
    const handlerTimeout = checkedHandlerTimeout(options.handlerTimeout);
    checkHandler(handler);
    const source = this.#source(module, action, handlerTimeout, options.model);
    const consumer = new Consumer(source, handler as Handler<never>, concurrency, handlerTimeout);
    await consumer.start(this.#checkedPrefetch(options.prefetch, concurrency), timeout);
    if (this.#closing !== undefined) {
      // close() did not know this consumer yet.
      await consumer.stop(0);
      throw closed();
    }
    for (const each of this.#consumers) if (each.stopped) this.#consumers.delete(each);
    this.#consumers.add(consumer);
    return consumer;
  }

  /**
   * Return the messages of an action as an asynchronous iterator:
   *
   *     for await (const item of client.stream("crm", "leads.create")) {
   *       await item.handle(async (message) => { … });
   *     }
   */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  stream<Data = any, Module extends ModuleName = ModuleName>(
    module: Module,
    action: ActionNames[Module],
    given: StreamOptions<Data> = {},
  ): Stream<Data> {
    const options = readOptions(given, STREAM_OPTIONS);
    const timeout = checkedSeconds("timeout", options.timeout ?? USUAL_TIMEOUT_S);
    const source = this.#source(module, action, undefined, options.model);
    const stream = new Stream<Data>(source, this.#checkedPrefetch(options.prefetch, 1), timeout);
    for (const each of this.#streams) if (each.ended) this.#streams.delete(each);
    this.#streams.add(stream as Stream<never>);
    return stream;
  }

  #source(
    module: string,
    action: string,
    handlerTimeout: number | undefined,
    model: Model<unknown> | undefined,
  ): Source {
    if (this.#closing !== undefined) throw closed();
    checkRoute(this.#catalog, module, action);
    const learned = this.#learned;
    learned?.consumes(module, action);
    return {
      transport: this.#transport,
      names: this.#names,
      catalog: this.#catalog,
      module,
      action,
      idempotency: this.#options.idempotency,
      lease: handlerTimeout === undefined ? NO_LIMIT_LEASE_S : handlerTimeout + 30,
      maxBytes: this.#maxBytes,
      model: modelOf(model),
      log: this.#log,
      note: learned && ((note) => learned.became(note)),
    };
  }

  #checkedPrefetch(prefetch: number | undefined, concurrency: number): number {
    const chosen = prefetch === undefined ? this.#prefetch : checkedCount("prefetch", prefetch, MAX_PREFETCH);
    return Math.max(chosen, concurrency);
  }

  /** Return the figures of all queues, or of one module's. Rejects with UnknownRoute or StatsUnavailable. */
  async queueStats(module?: string, timeout = USUAL_TIMEOUT_S): Promise<QueueStats[]> {
    if (this.#closed) throw closed();
    if (module !== undefined) checkModule(this.#catalog, module);
    const figures = await this.#transport.queues(checkedSeconds("timeout", timeout));
    const stats = figures.map((queue) => readStats(queue, this.#names, this.#catalog));
    return stats.filter((queue) => module === undefined || queue.module === module);
  }

  /** Get an answer from the broker on each connection, for a health check. Rejects with NotConnected. */
  async ping(timeout = 5): Promise<void> {
    if (this.#closing !== undefined) throw closed();
    await this.#transport.ping(checkedSeconds("timeout", timeout));
  }

  /**
   * Handle messages until SIGTERM, SIGINT or `close`, then close as `close(timeout)`.
   *
   * Until it resolves, further signals have no effect.
   */
  async run(timeout = CLOSE_S): Promise<void> {
    checkedPatience("timeout", timeout);
    if (this.#closing !== undefined) return await this.#closing;
    const end = () => this.#ending.set();
    // A timer keeps the process alive, also while there is no connection.
    const alive = setInterval(() => undefined, 60_000);
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, end);
    try {
      await this.#ending.wait();
      await this.close(timeout);
    } finally {
      clearInterval(alive);
      for (const signal of ["SIGTERM", "SIGINT"] as const) process.off(signal, end);
    }
  }

  /**
   * Stop all consumers, let handlers finish for `timeout` seconds, and disconnect. Safe to call twice.
   *
   * Handlers can still send until they have finished.
   */
  close(timeout = CLOSE_S): Promise<void> {
    if (this.#closing === undefined) {
      try {
        checkedPatience("timeout", timeout);
      } catch (error) {
        return Promise.reject(error);
      }
      this.#closing = this.#close(timeout);
      this.#ending.set();
    }
    return this.#closing;
  }

  async #close(timeout: number): Promise<void> {
    try {
      const stopped = [...this.#consumers].map((consumer) => consumer.stop(timeout));
      const ended = [...this.#streams].map((stream) => stream.close());
      await Promise.allSettled([...stopped, ...ended]);
      this.#closed = true;
      this.#reach.close();
      await this.#auditor?.close();
      if (this.#ready) await this.#learned?.close();
      await this.#closeStore();
    } finally {
      this.#closed = true;
      await this.#transport.close();
    }
  }

  /** Close the idempotency store. A frozen one must not keep the connections open. */
  async #closeStore(): Promise<void> {
    try {
      await within(Promise.resolve(this.#options.idempotency?.close()), STORE_CLOSE_MS);
    } catch (error) {
      this.#log.error("cannot close the idempotency store", error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function checkApplication(application: unknown): void {
  checkText("application", application);
  const name = application as string | undefined;
  const isShort = name !== undefined && Array.from(name).length <= 100 && Buffer.byteLength(name) <= MAX_NAME_BYTES;
  if (isShort && name !== "" && isPrintable(name)) return;
  const remedy = `Pass printable text of at most 100 characters and ${MAX_NAME_BYTES} bytes`;
  throw new ConfigurationError(`application: ${shown(application)} is not a valid name`, { remedy });
}

function checkTls(tls: unknown): void {
  if (tls === undefined || tls === null || typeof tls === "object") return;
  const remedy = "Pass options of node:tls, such as {ca: readFileSync('ca.pem')}";
  throw new ConfigurationError(`tls: ${typeName(tls)} is not an object`, { remedy });
}

/** Return seconds; undefined for no limit. Throws ConfigurationError. */
function checkedHandlerTimeout(given: number | null | undefined): number | undefined {
  if (given === null) return undefined;
  const timeout = checkedSeconds("handlerTimeout", given ?? 60);
  if (timeout <= MAX_HANDLER_S) return timeout;
  const [asked, most] = [timeout.toLocaleString("en"), MAX_HANDLER_S.toLocaleString("en")];
  const remedy = "Store the job, return, and do the work on its own";
  throw new ConfigurationError(`handlerTimeout ${asked} s is longer than the maximum, ${most} s`, { remedy });
}

function programName(): string {
  const file = process.argv[1] ?? "";
  return basename(file, extname(file)).slice(0, 100) || "node";
}
