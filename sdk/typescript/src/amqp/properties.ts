/**
 * A message's properties in bytes: written as they were read, as far as JavaScript can hold them.
 *
 * amqplib reads text that is not UTF-8 with replacement characters, rounds integers beyond 2^53, and ends the
 * connection at a table that it cannot read.
 */

import { isUtf8 } from "node:buffer";
import { type Envelope, Header, type HeaderValue } from "../message.ts";

const MAX_DEPTH = 100;
const LAST_SECOND = 2 ** 32 - 1;
/** The end of the year 9999, in ms. */
const LATEST_MS = 253_402_300_799_999;
const PERSISTENT = 2;

const CONTENT_TYPE = 0x8000;
const CONTENT_ENCODING = 0x4000;
const HEADERS = 0x2000;
const DELIVERY_MODE = 0x1000;
const PRIORITY = 0x0800;
const CORRELATION_ID = 0x0400;
const REPLY_TO = 0x0200;
const EXPIRATION = 0x0100;
const MESSAGE_ID = 0x0080;
const TIMESTAMP = 0x0040;
const TYPE = 0x0020;
const USER_ID = 0x0010;
const APP_ID = 0x0008;
const CLUSTER_ID = 0x0004;

/** A buffer that grows. Values are appended; an error leaves it half-written. */
export class Scratch {
  buffer = Buffer.allocUnsafe(4096);
  end = 0;

  /** Make room for so many bytes. */
  room(size: number): void {
    if (this.end + size <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.end + size));
    this.buffer.copy(larger, 0, 0, this.end);
    this.buffer = larger;
  }

  byte(value: number): void {
    this.room(1);
    this.buffer[this.end++] = value;
  }

  uint16(value: number): void {
    this.room(2);
    this.end = this.buffer.writeUInt16BE(value, this.end);
  }

  uint32(value: number): void {
    this.room(4);
    this.end = this.buffer.writeUInt32BE(value, this.end);
  }

  uint64(value: number): void {
    this.room(8);
    this.end = this.buffer.writeUInt32BE(Math.floor(value / 2 ** 32), this.end);
    this.end = this.buffer.writeUInt32BE(value % 2 ** 32, this.end);
  }

  /** Append text, and return how many bytes it took. Short ASCII, the usual case, needs no call into C++. */
  text(text: string): number {
    const { length } = text;
    this.room(length * 3);
    const { buffer, end } = this;
    if (length <= 64) {
      let at = 0;
      for (; at < length; at++) {
        const code = text.charCodeAt(at);
        if (code > 127) break;
        buffer[end + at] = code;
      }
      if (at === length) {
        this.end = end + length;
        return length;
      }
    }
    const size = buffer.write(text, end);
    this.end = end + size;
    return size;
  }

  /** Append text of at most 255 bytes. Throws RangeError. */
  short(name: string, text: string): void {
    const at = this.end;
    this.byte(0);
    const size = this.text(text);
    if (size > 255) throw new RangeError(`${name} has ${size} bytes, and at most 255 can be written`);
    this.buffer[at] = size;
  }

  long(text: string): void {
    const at = this.end;
    this.uint32(0);
    this.buffer.writeUInt32BE(this.text(text), at);
  }

  bytes(bytes: Uint8Array): void {
    this.uint32(bytes.length);
    this.room(bytes.length);
    this.buffer.set(bytes, this.end);
    this.end += bytes.length;
  }
}

/** Append the properties of a message. Throws a TypeError or RangeError for a value without a binary form. */
export function writeProperties(out: Scratch, message: Envelope): void {
  const start = out.end;
  let flags = HEADERS | DELIVERY_MODE | PRIORITY;
  out.uint16(0);
  if (message.contentType !== undefined) {
    flags |= CONTENT_TYPE;
    out.short("contentType", message.contentType);
  }
  if (message.contentEncoding !== undefined) {
    flags |= CONTENT_ENCODING;
    out.short("contentEncoding", message.contentEncoding);
  }
  writeTable(out, message.headers, 0);
  out.byte(PERSISTENT);
  out.byte(message.priority);
  if (message.correlationId !== undefined) {
    flags |= CORRELATION_ID;
    out.short("correlationId", message.correlationId);
  }
  if (message.replyTo !== undefined) {
    flags |= REPLY_TO;
    out.short("replyTo", message.replyTo);
  }
  if (message.expiration !== undefined) {
    flags |= EXPIRATION;
    out.short("expiration", String(message.expiration));
  }
  if (message.messageId !== "") {
    flags |= MESSAGE_ID;
    out.short("messageId", message.messageId);
  }
  if (message.timestamp !== undefined) {
    flags |= TIMESTAMP;
    writeTime(out, message.timestamp, message.received);
  }
  if (message.type !== undefined) {
    flags |= TYPE;
    out.short("type", message.type);
  }
  if (message.appId !== undefined) {
    flags |= APP_ID;
    out.short("appId", message.appId);
  }
  out.buffer.writeUInt16BE(flags, start);
}

function writeTable(out: Scratch, table: Readonly<Record<string, HeaderValue>>, depth: number): void {
  const at = out.end;
  out.uint32(0);
  for (const name in table) {
    const value = table[name];
    // A program may have added to Object.prototype.
    if (value === undefined || !Object.hasOwn(table, name)) continue;
    out.short(`the name ${name.slice(0, 40)}`, name);
    writeValue(out, value, depth);
  }
  out.buffer.writeUInt32BE(out.end - at - 4, at);
}

function writeValue(out: Scratch, value: HeaderValue, depth: number): void {
  switch (typeof value) {
    case "string":
      out.byte(0x53); // S
      out.long(value);
      return;
    case "boolean":
      out.byte(0x74); // t
      out.byte(value ? 1 : 0);
      return;
    case "number":
      writeNumber(out, value);
      return;
    case "bigint":
      out.byte(0x6c); // l
      out.room(8);
      out.end = out.buffer.writeBigInt64BE(value, out.end);
      return;
    case "object":
      writeObject(out, value, depth);
      return;
    default:
      throw new TypeError(`a header cannot be a ${typeof value}`);
  }
}

function writeNumber(out: Scratch, value: number): void {
  if (!Number.isSafeInteger(value)) {
    out.byte(0x64); // d
    out.room(8);
    out.end = out.buffer.writeDoubleBE(value, out.end);
  } else if (value >= -128 && value < 128) {
    out.byte(0x62); // b
    out.byte(value & 255);
  } else if (value >= -(2 ** 31) && value < 2 ** 31) {
    out.byte(0x49); // I
    out.uint32(value >>> 0);
  } else {
    out.byte(0x6c); // l
    out.room(8);
    out.end = out.buffer.writeBigInt64BE(BigInt(value), out.end);
  }
}

function writeObject(out: Scratch, value: Exclude<HeaderValue, string | number | bigint | boolean>, depth: number) {
  if (depth >= MAX_DEPTH) throw new RangeError(`headers are nested deeper than ${MAX_DEPTH}`);
  if (value === null) {
    out.byte(0x56); // V
  } else if (Array.isArray(value)) {
    out.byte(0x41); // A
    const at = out.end;
    out.uint32(0);
    for (const each of value) writeValue(out, each, depth + 1);
    out.buffer.writeUInt32BE(out.end - at - 4, at);
  } else if (value instanceof Date) {
    out.byte(0x54); // T
    writeTime(out, value, false);
  } else if (value instanceof Uint8Array) {
    // Text that is not UTF-8 was read as a Buffer, and octets as a Uint8Array.
    out.byte(Buffer.isBuffer(value) ? 0x53 : 0x78); // S, x
    out.bytes(value);
  } else {
    out.byte(0x46); // F
    writeTable(out, value as Readonly<Record<string, HeaderValue>>, depth + 1);
  }
}

/** Append a time: seconds, or milliseconds for one that was read with a fraction, or is too late for seconds. */
function writeTime(out: Scratch, time: Date, exact: boolean): void {
  const ms = time.getTime();
  if (!(ms >= 0))
    throw new RangeError(`${Number.isNaN(ms) ? "an invalid Date" : time.toISOString()} cannot be written`);
  const whole = Math.floor(ms / 1000);
  out.uint64(whole > LAST_SECOND || (exact && ms % 1000 !== 0) ? ms : whole);
}

/** What of an envelope is among the properties. */
export type Properties = Pick<
  Envelope,
  | "headers"
  | "contentType"
  | "contentEncoding"
  | "priority"
  | "correlationId"
  | "replyTo"
  | "expiration"
  | "messageId"
  | "timestamp"
  | "type"
  | "appId"
>;

/** Return the properties of a content header. Those that cannot be read become the header Header.UNREADABLE. */
export function readProperties(buffer: Buffer, at: number, end: number): Properties {
  try {
    return new Reader(buffer, at, end).properties();
  } catch (error) {
    const reason = error instanceof Error && error.message ? error.message : String(error);
    return { ...NONE, headers: { [Header.UNREADABLE]: reason.slice(0, 200) } };
  }
}

const NONE: Properties = {
  headers: {},
  contentType: undefined,
  contentEncoding: undefined,
  priority: 0,
  correlationId: undefined,
  replyTo: undefined,
  expiration: undefined,
  messageId: "",
  timestamp: undefined,
  type: undefined,
  appId: undefined,
};

class Reader {
  readonly #buffer: Buffer;
  #at: number;
  readonly #end: number;

  constructor(buffer: Buffer, at: number, end: number) {
    this.#buffer = buffer;
    this.#at = at;
    this.#end = end;
  }

  properties(): Properties {
    const flags = this.#buffer.readUInt16BE(this.#take(2));
    const contentType = flags & CONTENT_TYPE ? this.#short() : undefined;
    const contentEncoding = flags & CONTENT_ENCODING ? this.#short() : undefined;
    const headers = flags & HEADERS ? this.#table(0) : {};
    if (flags & DELIVERY_MODE) this.#take(1);
    const priority = flags & PRIORITY ? this.#byte() : 0;
    const correlationId = flags & CORRELATION_ID ? this.#short() : undefined;
    const replyTo = flags & REPLY_TO ? this.#short() : undefined;
    const expiration = flags & EXPIRATION ? this.#short() : "";
    const messageId = flags & MESSAGE_ID ? this.#short() : "";
    const timestamp = flags & TIMESTAMP ? this.#time() : undefined;
    const type = flags & TYPE ? this.#short() : undefined;
    if (flags & USER_ID) this.#short();
    const appId = flags & APP_ID ? this.#short() : undefined;
    if (flags & CLUSTER_ID) this.#short();
    return {
      headers,
      contentType,
      contentEncoding,
      priority,
      correlationId,
      replyTo,
      // RabbitMQ accepts only digits; another broker's text must not leave the message unanswered.
      expiration: /^[0-9]+$/.test(expiration) ? Number(expiration) : undefined,
      messageId,
      timestamp,
      type,
      appId,
    };
  }

  /** Go on by so many bytes, and return where they begin. Throws RangeError. */
  #take(size: number): number {
    const at = this.#at;
    this.#at = at + size;
    if (this.#at > this.#end) throw new RangeError("the properties end too early");
    return at;
  }

  #byte(): number {
    return this.#buffer[this.#take(1)]!;
  }

  #short(): string {
    const size = this.#byte();
    const at = this.#take(size);
    const text = this.#buffer.toString("utf8", at, at + size);
    if (text.includes("\ufffd") && !isUtf8(this.#buffer.subarray(at, at + size))) {
      throw new TypeError("a property is not UTF-8");
    }
    return text;
  }

  #table(depth: number): Record<string, HeaderValue> {
    if (depth > MAX_DEPTH) throw new RangeError(`headers are nested deeper than ${MAX_DEPTH}`);
    const table: Record<string, HeaderValue> = {};
    const size = this.#buffer.readUInt32BE(this.#take(4));
    const end = this.#at + size;
    if (end > this.#end) throw new RangeError("a table is larger than the properties");
    while (this.#at < end) {
      const name = this.#short();
      const value = this.#value(depth);
      // As JSON.parse does: this name is no way to the prototype.
      if (name === "__proto__") Object.defineProperty(table, name, { value, enumerable: true, writable: true });
      else table[name] = value;
    }
    return table;
  }

  #value(depth: number): HeaderValue {
    const tag = this.#byte();
    const buffer = this.#buffer;
    switch (tag) {
      case 0x53: // S
        return this.#long();
      case 0x49: // I
        return buffer.readInt32BE(this.#take(4));
      case 0x62: // b
        return buffer.readInt8(this.#take(1));
      case 0x42: // B
        return this.#byte();
      case 0x73: // s
      case 0x55: // U
        return buffer.readInt16BE(this.#take(2));
      case 0x75: // u
        return buffer.readUInt16BE(this.#take(2));
      case 0x69: // i
        return buffer.readUInt32BE(this.#take(4));
      case 0x6c: // l
      case 0x4c: // L
        return this.#integer();
      case 0x74: // t
        return this.#byte() !== 0;
      case 0x64: // d
        return buffer.readDoubleBE(this.#take(8));
      case 0x66: // f
        return buffer.readFloatBE(this.#take(4));
      case 0x54: // T
        return this.#time();
      case 0x56: // V
        return null;
      case 0x46: // F
        return this.#table(depth + 1);
      case 0x41: // A
        return this.#array(depth + 1);
      case 0x78: // x
        return new Uint8Array(this.#octets());
      case 0x44: // D
        return this.#decimal();
      default:
        throw new TypeError(`a header has the unknown type ${tag}`);
    }
  }

  #octets(): Buffer {
    const size = this.#buffer.readUInt32BE(this.#take(4));
    const at = this.#take(size);
    return this.#buffer.subarray(at, at + size);
  }

  /** Return text, or the bytes of text that is not UTF-8. */
  #long(): HeaderValue {
    const size = this.#buffer.readUInt32BE(this.#take(4));
    const at = this.#take(size);
    const text = this.#buffer.toString("utf8", at, at + size);
    if (!text.includes("\ufffd")) return text;
    const bytes = this.#buffer.subarray(at, at + size);
    return isUtf8(bytes) ? text : Buffer.from(bytes);
  }

  #array(depth: number): HeaderValue {
    if (depth > MAX_DEPTH) throw new RangeError(`headers are nested deeper than ${MAX_DEPTH}`);
    const values: HeaderValue[] = [];
    const size = this.#buffer.readUInt32BE(this.#take(4));
    const end = this.#at + size;
    if (end > this.#end) throw new RangeError("a list is larger than the properties");
    while (this.#at < end) values.push(this.#value(depth));
    return values;
  }

  #integer(): number | bigint {
    const value = this.#buffer.readBigInt64BE(this.#take(8));
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #decimal(): number {
    const places = this.#byte();
    return this.#buffer.readInt32BE(this.#take(4)) / 10 ** places;
  }

  #time(): Date {
    const at = this.#take(8);
    const value = this.#buffer.readUInt32BE(at) * 2 ** 32 + this.#buffer.readUInt32BE(at + 4);
    const ms = value > LAST_SECOND ? value : value * 1000;
    if (ms > LATEST_MS) throw new RangeError(`${value} is not a time`);
    return new Date(ms);
  }
}
