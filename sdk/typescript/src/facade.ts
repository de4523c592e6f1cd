/** The typed view of one module, and the options of a client and a consumer. */

import type { AuditSink } from "./audit.ts";
import type { Catalog } from "./catalog.ts";
import { readOptions } from "./checks.ts";
import type { Compression } from "./compression.ts";
import type { Consumer, Handler } from "./consuming/consumer.ts";
import type { Stream } from "./consuming/stream.ts";
import type { IdempotencyStore } from "./idempotency.ts";
import type { Logger } from "./log.ts";
import type { Outgoing, SendOptions, SendResult } from "./message.ts";
import type { Model } from "./model.ts";
import type { ActionNames, ModuleName } from "./modules.ts";
import type { Router } from "./routing.ts";

/** Options of a client. */
export interface ClientOptions {
  /** The platform's catalog, read by `parseCatalog`. Default: the package's. */
  readonly catalog?: Catalog | undefined;
  /** Messages delivered to a consumer before its first answer. Default: 100. */
  readonly prefetch?: number | undefined;
  /** Replaces the default rules. After `routerTimeout` seconds (default: 1) the rules decide. */
  readonly router?: Router | undefined;
  readonly routerTimeout?: number | undefined;
  /** For messages to mobile devices; null turns it off. Default: zstd. */
  readonly compression?: Compression | null | undefined;
  /** Receives a record of every send. */
  readonly audit?: AuditSink | undefined;
  /** Remembers handled messages. */
  readonly idempotency?: IdempotencyStore | undefined;
  /** The largest message to send or decode, in bytes. Default: 16 MiB. */
  readonly maxBytes?: number | undefined;
  /** Where the SDK says what happens, such as `console`. Default: warnings and errors go to the error output. */
  readonly logger?: Logger | undefined;
}

/** Options of a message, and the seconds to wait for its confirmation (default: 10). */
export interface TimedSendOptions extends SendOptions {
  readonly timeout?: number | undefined;
}

/** The names of these options. */
export const SEND_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({
    priority: true,
    device: true,
    messageId: true,
    expires: true,
    headers: true,
    timeout: true,
  } satisfies Record<keyof TimedSendOptions, true>),
);

/** Options of a stream. */
export interface StreamOptions<Data> {
  /** The type of `message.data`. A message that does not fit it becomes a dead letter at once. Default: plain JSON. */
  readonly model?: Model<Data> | undefined;
  /** Messages delivered ahead. Default: the client's. */
  readonly prefetch?: number | undefined;
  /** Seconds to wait for the subscription. Later connection losses are repaired automatically. Default: 10. */
  readonly timeout?: number | undefined;
}

/** Options of a consumer. */
export interface ConsumeOptions<Data> extends StreamOptions<Data> {
  /** Messages handled at a time. Default: 10. */
  readonly concurrency?: number | undefined;
  /** Seconds, at most a day; null: no limit, but the broker still takes a message back after a day. Default: 60. */
  readonly handlerTimeout?: number | null | undefined;
}

const STREAM = { model: true, prefetch: true, timeout: true } satisfies Record<keyof StreamOptions<never>, true>;

/** The names of a stream's options. */
export const STREAM_OPTIONS: ReadonlySet<string> = new Set(Object.keys(STREAM));

/** The names of a consumer's options. */
export const CONSUME_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({
    ...STREAM,
    concurrency: true,
    handlerTimeout: true,
  } satisfies Record<keyof ConsumeOptions<never>, true>),
);

/** Options of many messages. */
export interface BatchOptions {
  /** Messages on their way at a time, at most 10,000. Default: 256. */
  readonly window?: number | undefined;
  /** Seconds to wait for the confirmation of each message. Default: 10. */
  readonly timeout?: number | undefined;
}

/** The names of these options. */
export const BATCH_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({ window: true, timeout: true } satisfies Record<keyof BatchOptions, true>),
);

/** Options of a broadcast. */
export interface BroadcastOptions {
  /** Default: a new UUID. */
  readonly messageId?: string | undefined;
  /** Seconds to wait for the confirmation. Default: 10. */
  readonly timeout?: number | undefined;
}

/** The names of these options. */
export const BROADCAST_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({ messageId: true, timeout: true } satisfies Record<keyof BroadcastOptions, true>),
);

/** What a facade needs of a client. */
export interface FacadeClient {
  sendMessage(message: Outgoing, timeout?: number): Promise<SendResult>;
  consume<Data>(
    module: string,
    action: string,
    handler: Handler<Data>,
    options?: ConsumeOptions<Data>,
  ): Promise<Consumer>;
  stream<Data>(module: string, action: string, options?: StreamOptions<Data>): Stream<Data>;
}

/** Send and consume one module's messages: `client.crm.send("leads.create", data)`. */
export class Facade<Action extends string> {
  readonly module: string;
  /** The priority of a message that is sent without one. */
  readonly priority: number;
  readonly #client: FacadeClient;

  constructor(client: FacadeClient, module: string, priority: number) {
    this.#client = client;
    this.module = module;
    this.priority = priority;
  }

  /** Send as `MessagingClient.send`. Default priority: the module's. */
  send(action: Action, data: unknown, options: TimedSendOptions = {}): Promise<SendResult> {
    let message: Outgoing;
    let timeout: number | undefined;
    try {
      const { timeout: given, ...own } = readOptions(options, SEND_OPTIONS);
      timeout = given;
      const priority = own.priority === undefined ? this.priority : own.priority;
      message = { ...own, priority, module: this.module, action, data };
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#client.sendMessage(message, timeout);
  }

  /** Consume as `MessagingClient.consume`. */
  // biome-ignore lint/suspicious/noExplicitAny: data is whatever JSON holds, unless a model says more
  consume<Data = any>(action: Action, handler: Handler<Data>, options?: ConsumeOptions<Data>): Promise<Consumer> {
    return this.#client.consume(this.module, action, handler, options);
  }

  /** Stream as `MessagingClient.stream`. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  stream<Data = any>(action: Action, options?: StreamOptions<Data>): Stream<Data> {
    return this.#client.stream(this.module, action, options);
  }
}

type EveryFacade = { readonly [Module in ModuleName]: Facade<ActionNames[Module]> };

/** One property per module of the package's catalog, restricted to the actions of that module. */
export abstract class Facades implements EveryFacade {
  readonly crm = this.facade("crm");
  readonly whatsapp = this.facade("whatsapp");
  readonly agendamento = this.facade("agendamento");
  readonly financeiro = this.facade("financeiro");
  readonly marketing = this.facade("marketing");
  readonly analytics = this.facade("analytics");
  readonly portal = this.facade("portal");
  readonly whitelabel = this.facade("whitelabel");

  protected abstract facade<Module extends ModuleName>(module: Module): Facade<ActionNames[Module]>;
}
