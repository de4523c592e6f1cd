/** A message as an application sends it, as a handler gets it, and as it travels. All times are seconds. */

export const DEVICES = ["mobile", "web", "unknown"] as const;

/** The kind of device that a message is for. */
export type Device = (typeof DEVICES)[number];

/** A value of a header. A number that is whole is sent as an integer; a bigint has at most 64 bits. */
export type HeaderValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | Date
  | Uint8Array
  | readonly HeaderValue[]
  | { readonly [name: string]: HeaderValue };

/** Headers of a message. What an application may add, and how long, is bounded. */
export type Headers = Readonly<Record<string, HeaderValue>>;

/** The names of the headers that the SDK adds to messages that failed. */
export const Header = {
  /** The number of failed attempts, where retry queues count them instead of the broker. */
  FAILURES: "kryonix-failures",
  /** Why a message is a dead letter. */
  REASON: "kryonix-reason",
  /** When the SDK made a message a dead letter. The broker notes this, and the attempts, for its own only. */
  DIED: "kryonix-died-at",
  ATTEMPTS: "kryonix-attempts",
  /** The exchange of the first publication. Redrive needs it together with FIRST_KEY. */
  FIRST_EXCHANGE: "kryonix-exchange",
  FIRST_KEY: "kryonix-routing-key",
  /** The decoding error of a message with unreadable properties. It replaces all other headers. */
  UNREADABLE: "kryonix-unreadable",
  /** The number of redrives of a message. */
  REDRIVES: "kryonix-redrives",
  /** The last redrive run of a message: a run never moves a message twice. */
  REDRIVE_RUN: "kryonix-redrive-run",
  /** Why the message was a dead letter. */
  REDRIVE_REASON: "kryonix-redrive-reason",
} as const;

/** When the broker received a message first (ms since 1970), with the platform's `receiveTime`. */
export const RECEIVED_HEADER = "timestamp_in_ms";

/** Headers with an effect in the broker, or counted by it. Copies leave them out. Case matters. */
export const CONTROL_HEADERS: ReadonlySet<string> = new Set([
  "CC",
  "BCC",
  "x-delivery-count",
  "x-acquired-count",
  "x-opt-rabbitmq-delivery-time",
  "x-delayed-until",
]);

/** Return true for a header that RabbitMQ acts upon, counts in, or writes when a message dies. */
export function isBrokerHeader(name: string): boolean {
  return (
    CONTROL_HEADERS.has(name) ||
    name === "x-death" ||
    name === RECEIVED_HEADER ||
    name.startsWith("x-first-death-") ||
    name.startsWith("x-last-death-")
  );
}

const LATEST_MS = 253_402_300_799_999;
const EARLIEST_MS = -62_135_596_800_000;

/** Return when the broker received a message first; undefined if it did not say so, or the value is not a time. */
export function receiveTime(headers: Headers): Date | undefined {
  const stamp = headers[RECEIVED_HEADER];
  const ms = typeof stamp === "bigint" ? Number(stamp) : stamp;
  if (typeof ms !== "number" || !Number.isSafeInteger(ms) || ms < EARLIEST_MS || ms > LATEST_MS) return undefined;
  return new Date(ms);
}

/** Options of a message. */
export interface SendOptions {
  /** 0 to 10: 8-10 is `high`, 5-7 `medium`, 0-4 `low`. Default: 5. */
  readonly priority?: number | undefined;
  /** Default: `unknown`. */
  readonly device?: Device | undefined;
  /** Default: a new UUID. Messages with the same id are the same message. */
  readonly messageId?: string | undefined;
  /** Time to live, seconds. Default: the module's retention. */
  readonly expires?: number | undefined;
  readonly headers?: Headers | undefined;
}

/** A message to send. `data` is JSON data, or bytes, sent unchanged. */
export interface Outgoing<M extends string = string, A extends string = string> extends SendOptions {
  readonly module: M;
  readonly action: A;
  readonly data: unknown;
}

/** A message stored and confirmed by the broker. */
export interface SendResult {
  readonly messageId: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly priority: number;
  readonly mobileOptimized: boolean;
  /** Size of the body on the wire, after compression. */
  readonly bytes: number;
  /** The reason for this route. */
  readonly decision: string;
}

/** The path of a received message. */
export interface Route {
  readonly module: string;
  readonly action: string;
  readonly queue: string;
  /** The exchange of the first publication, also after retries. */
  readonly exchange: string;
  readonly routingKey: string;
}

/** A message as a handler gets it. */
export interface Message<Data = unknown> {
  readonly data: Data;
  readonly messageId: string;
  /** 1 at the first delivery, one more after each failure. */
  readonly attempt: number;
  readonly headers: Headers;
  readonly route: Route;
  readonly priority: number;
  readonly sentAt: Date | undefined;
  /** The name of the sending application. */
  readonly application: string | undefined;
  /** True for a message to every module with AI routing; its data is not this action's. */
  readonly broadcast: boolean;
  /** When the broker received it first, also after retries; undefined on a platform without `receiveTime`. */
  readonly receivedAt: Date | undefined;
}

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;

/** Return true for text without control characters, line breaks and spaces other than the usual one. */
export function isPrintable(text: string): boolean {
  return !UNPRINTABLE.test(text);
}

/** Return a message's id for the log. Other clients set none, or one with line breaks. */
export function shownId(messageId: string): string {
  return (isPrintable(messageId) ? messageId : JSON.stringify(messageId)) || "without id";
}

/** A message on the wire: encoded and addressed. Undefined properties are not sent. */
export interface Envelope {
  exchange: string;
  routingKey: string;
  body: Buffer;
  messageId: string;
  headers: Record<string, HeaderValue>;
  priority: number;
  contentType: string | undefined;
  contentEncoding: string | undefined;
  /** ms */
  expiration: number | undefined;
  timestamp: Date | undefined;
  appId: string | undefined;
  /** Set by other applications, like the next two. The SDK only passes them on. */
  correlationId: string | undefined;
  replyTo: string | undefined;
  type: string | undefined;
  /** True for a message read from a broker: its properties are written back unchanged. */
  received: boolean;
}

/** Return an envelope with a constant shape: all properties are there, in one order. */
export function envelope(
  parts: Pick<Envelope, "exchange" | "routingKey" | "body" | "messageId"> & Partial<Envelope>,
): Envelope {
  return {
    exchange: parts.exchange,
    routingKey: parts.routingKey,
    body: parts.body,
    messageId: parts.messageId,
    headers: parts.headers ?? {},
    priority: parts.priority ?? 0,
    contentType: "contentType" in parts ? parts.contentType : "application/json",
    contentEncoding: parts.contentEncoding,
    expiration: parts.expiration,
    timestamp: parts.timestamp,
    appId: parts.appId,
    correlationId: parts.correlationId,
    replyTo: parts.replyTo,
    type: parts.type,
    received: parts.received ?? false,
  };
}
