/** Send and consume the messages of a Kryonix tenant. All times are seconds. */

export { type AuditRecord, type AuditSink, JsonLinesAudit, PostgresAudit } from "./audit.ts";
export {
  type Catalog,
  type Limits,
  type Module,
  type Plan,
  parseCatalog,
  type RetrySettings,
  type Scaling,
} from "./catalog.ts";
export { type ConnectOptions, MessagingClient } from "./client.ts";
export type { Compression } from "./compression.ts";
export type { Address, AddressOptions, HostPort } from "./configuration.ts";
export type { Consumer, Handler } from "./consuming/consumer.ts";
export type { Item, Stream } from "./consuming/stream.ts";
export * from "./errors.ts";
export type {
  BatchOptions,
  BroadcastOptions,
  ClientOptions,
  ConsumeOptions,
  Facade,
  FacadeClient,
  Facades,
  StreamOptions,
  TimedSendOptions,
} from "./facade.ts";
export {
  type Claim,
  type IdempotencyStore,
  MemoryIdempotency,
  NeverStored,
  PostgresIdempotency,
} from "./idempotency.ts";
export { LearnedRouter, type LearnedRouterOptions, type RouterStatus } from "./learned/router.ts";
export type { Mode } from "./learned/source.ts";
export type { Logger } from "./log.ts";
export { MemoryBroker, type MemoryOptions } from "./memory/index.ts";
export type {
  Device,
  Envelope,
  Headers,
  HeaderValue,
  Message,
  Outgoing,
  Route,
  SendOptions,
  SendResult,
} from "./message.ts";
export type { Model, StandardSchema } from "./model.ts";
export type * from "./modules.ts";
export { CATALOG } from "./modules.ts";
export { Names, type Priority } from "./naming.ts";
export type { PostgresConnection, PostgresPool } from "./postgres.ts";
export { type Decision, type Exchange, type Router, Rules } from "./routing.ts";
export {
  type CallbackResult,
  type ConsumeMessagesOptions,
  KryonixMessagingSDK,
  type MessageCallback,
  type MessageContext,
  type MessageOptions,
  type ModuloType,
  type QueueFiguresOfSource,
  type RabbitMQCredentials,
  type SentMessage,
} from "./sdk.ts";
export type { Batch } from "./sender.ts";
export type { QueueKind, QueueStats } from "./stats.ts";
export type { Decisions } from "./tracing.ts";
export type { Deliver, Delivery, QueueFigures, Server, Subscription, Transport } from "./transport.ts";
export { VERSION } from "./version.ts";
export type { Sink } from "./writer.ts";

import { type ConnectOptions, MessagingClient } from "./client.ts";

/** Connect to a tenant's vhost: `MessagingClient.connect`. */
export function connect(options?: ConnectOptions): Promise<MessagingClient> {
  return MessagingClient.connect(options);
}
