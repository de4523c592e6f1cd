/** The names of the product's source document, over MessagingClient: KryonixMessagingSDK, sendMessage, consumeMessages. */

import { checkedCount, readOptions } from "./checks.ts";
import { type ConnectOptions, MessagingClient } from "./client.ts";
import type { Consumer } from "./consuming/consumer.ts";
import { ConfigurationError, NotConnected, Reject, Retry } from "./errors.ts";
import type { TimedSendOptions } from "./facade.ts";
import type { Headers, Message, SendResult } from "./message.ts";
import type { ActionNames, ModuleName } from "./modules.ts";

const MAX_PORT = 65_535;

/** A module's name, as the source document calls it. */
export type ModuloType = ModuleName;

/** A login instead of a whole address. */
export interface RabbitMQCredentials {
  readonly username: string;
  readonly password: string;
  /** `/cliente_` and the tenant's id. */
  readonly vhost: string;
  /** Default: `localhost`. */
  readonly hostname?: string | undefined;
  /** Default: 5672, with `tls` 5671. */
  readonly port?: number | undefined;
  /** True for `amqps://`. */
  readonly tls?: boolean | undefined;
}

/** Options of `sendMessage`. */
export type MessageOptions = TimedSendOptions;

export interface SentMessage extends SendResult {
  /** Always true: a message that is not stored rejects. */
  readonly success: true;
}

/** What a callback is told about a message besides its content. */
export interface MessageContext {
  readonly properties: {
    readonly messageId: string;
    readonly priority: number;
    readonly timestamp: Date | undefined;
    readonly appId: string | undefined;
    readonly headers: Headers;
  };
  readonly fields: { readonly exchange: string; readonly routingKey: string; readonly redelivered: boolean };
  readonly clienteId: string;
  readonly modulo: ModuloType;
  readonly acao: string;
  /** 1 at the first delivery, one more after each failure. */
  readonly attempt: number;
}

/** What a callback says of a message: done, retry it later, or else a dead letter with `error` as its reason. */
export interface CallbackResult {
  readonly success: boolean;
  readonly retry?: boolean | undefined;
  readonly error?: string | undefined;
}

/** Handles a message, like `Handler`. */
// biome-ignore lint/suspicious/noExplicitAny: data is whatever JSON holds
export type MessageCallback = (content: any, context: MessageContext) => Promise<CallbackResult> | CallbackResult;

/** Options of `consumeMessages`. */
export interface ConsumeMessagesOptions {
  readonly concurrency?: number | undefined;
  readonly prefetch?: number | undefined;
  /** Seconds; null: no limit. */
  readonly handlerTimeout?: number | null | undefined;
}

/** The figures of a queue, as the source document names them. Rates are messages per second. */
export interface QueueFiguresOfSource {
  readonly name: string;
  readonly messages: number;
  readonly consumers: number;
  readonly messageRate: number;
  readonly ackRate: number;
}

/**
 * The SDK of the source document: `new KryonixMessagingSDK("acme", …)`, `await sdk.initialize()`, `sdk.sendCRMMessage(…)`.
 *
 * It has the guarantees of MessagingClient, which `client` is. New programs use that: it types each module's actions.
 */
export class KryonixMessagingSDK {
  readonly clienteId: string;
  readonly #options: ConnectOptions;
  #client: MessagingClient | undefined;
  #initializing: Promise<void> | undefined;

  /** `options` are those of `MessagingClient.connect`, or a login. Default: the environment. Throws ConfigurationError. */
  constructor(clienteId: string, options: RabbitMQCredentials | ConnectOptions = {}) {
    if (typeof clienteId !== "string" || clienteId === "") {
      throw new ConfigurationError("clienteId: it is not a tenant's id", { remedy: "Pass a text such as 'acme'" });
    }
    this.clienteId = clienteId;
    this.#options = { ...optionsOf(options), tenant: clienteId };
  }

  /** Connect. A second call waits for the same connection. Rejects with NotConnected or AccessRefused. */
  initialize(): Promise<void> {
    this.#initializing ??= this.#initialize();
    return this.#initializing;
  }

  async #initialize(): Promise<void> {
    try {
      this.#client = await MessagingClient.connect(this.#options);
    } catch (error) {
      this.#initializing = undefined; // the next call tries again
      throw error;
    }
  }

  /** The client. Throws NotConnected before `initialize` has resolved. */
  get client(): MessagingClient {
    if (this.#client !== undefined) return this.#client;
    throw new NotConnected("the SDK is not initialized", { remedy: "Write `await sdk.initialize()` first" });
  }

  /** Send as `MessagingClient.send`, with the module's usual priority. */
  async sendMessage<Module extends ModuloType>(
    modulo: Module,
    acao: ActionNames[Module],
    dados: unknown,
    opcoes?: MessageOptions,
  ): Promise<SentMessage> {
    const result = await this.client.module(modulo).send(acao, dados, opcoes);
    return { success: true, ...result };
  }

  sendCRMMessage(acao: ActionNames["crm"], dados: unknown, opcoes?: MessageOptions): Promise<SentMessage> {
    return this.sendMessage("crm", acao, dados, opcoes);
  }

  sendWhatsAppMessage(acao: ActionNames["whatsapp"], dados: unknown, opcoes?: MessageOptions): Promise<SentMessage> {
    return this.sendMessage("whatsapp", acao, dados, opcoes);
  }

  sendAgendamentoMessage(
    acao: ActionNames["agendamento"],
    dados: unknown,
    opcoes?: MessageOptions,
  ): Promise<SentMessage> {
    return this.sendMessage("agendamento", acao, dados, opcoes);
  }

  sendFinanceiroMessage(
    acao: ActionNames["financeiro"],
    dados: unknown,
    opcoes?: MessageOptions,
  ): Promise<SentMessage> {
    return this.sendMessage("financeiro", acao, dados, opcoes);
  }

  sendMarketingMessage(acao: ActionNames["marketing"], dados: unknown, opcoes?: MessageOptions): Promise<SentMessage> {
    return this.sendMessage("marketing", acao, dados, opcoes);
  }

  sendAnalyticsMessage(acao: ActionNames["analytics"], dados: unknown, opcoes?: MessageOptions): Promise<SentMessage> {
    return this.sendMessage("analytics", acao, dados, opcoes);
  }

  sendPortalMessage(acao: ActionNames["portal"], dados: unknown, opcoes?: MessageOptions): Promise<SentMessage> {
    return this.sendMessage("portal", acao, dados, opcoes);
  }

  sendWhitelabelMessage(
    acao: ActionNames["whitelabel"],
    dados: unknown,
    opcoes?: MessageOptions,
  ): Promise<SentMessage> {
    return this.sendMessage("whitelabel", acao, dados, opcoes);
  }

  /**
   * Call `callback` with each message's data. It answers `{success: true}`; `{success: false, retry: true}` for a retry;
   * anything else makes the message a dead letter. A callback that throws is retried, as a handler of `consume`.
   */
  async consumeMessages<Module extends ModuloType>(
    modulo: Module,
    acao: ActionNames[Module],
    callback: MessageCallback,
    opcoes: ConsumeMessagesOptions = {},
  ): Promise<Consumer> {
    if (typeof callback !== "function") {
      const remedy = "Write `async (content, context) => ({success: true})`";
      throw new ConfigurationError(`callback: ${typeof callback} is not a function`, { remedy });
    }
    const handler = async (message: Message) => {
      const result = await callback(message.data, this.#contextOf(modulo, acao, message));
      if (result?.success === true) return;
      const error = result?.error ?? "the callback did not succeed";
      throw result?.retry === true ? new Retry(error) : new Reject(error);
    };
    return await this.client.consume(modulo, acao, handler, opcoes);
  }

  #contextOf(modulo: ModuloType, acao: string, message: Message): MessageContext {
    const { messageId, priority, sentAt, application, headers, route, attempt } = message;
    return {
      properties: { messageId, priority, timestamp: sentAt, appId: application, headers },
      fields: { exchange: route.exchange, routingKey: route.routingKey, redelivered: attempt > 1 },
      clienteId: this.clienteId,
      modulo,
      acao,
      attempt,
    };
  }

  /** Return the figures of all queues, or of one module's. Rejects with StatsUnavailable: they are never zero instead. */
  async getQueueStats(modulo?: ModuloType): Promise<QueueFiguresOfSource[]> {
    const stats = await this.client.queueStats(modulo);
    return stats.map(({ name, depth, consumers, publishRate, ackRate }) => {
      return { name, messages: depth, consumers, messageRate: publishRate, ackRate };
    });
  }

  /** Stop consumers, let handlers finish for `timeout` seconds, and disconnect. */
  async close(timeout?: number): Promise<void> {
    await this.#initializing?.catch(() => undefined);
    await this.#client?.close(timeout);
  }
}

const LOGIN_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({
    username: true,
    password: true,
    vhost: true,
    hostname: true,
    port: true,
    tls: true,
  } satisfies Record<keyof RabbitMQCredentials, true>),
);

/** Return the options of `connect`. Throws ConfigurationError, without a value: one may be the password. */
function optionsOf(options: RabbitMQCredentials | ConnectOptions): ConnectOptions {
  if (typeof options === "object" && options !== null && !("username" in options)) return options as ConnectOptions;
  const given = readOptions(options as RabbitMQCredentials, LOGIN_OPTIONS);
  const { username, password, vhost, hostname = "localhost", tls = false } = given;
  const { port = tls ? 5671 : 5672 } = given;
  for (const [name, value] of Object.entries({ username, password, vhost, hostname })) {
    if (typeof value === "string" && value !== "" && value.isWellFormed()) continue;
    throw new ConfigurationError(`${name}: it is not a text`, { remedy: "Pass username, password and vhost as text" });
  }
  const login = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  const place = `${host}:${checkedCount("port", port, MAX_PORT)}`;
  return { amqpUri: `${tls ? "amqps" : "amqp"}://${login}@${place}/${encodeURIComponent(vhost)}` };
}
