/**
 * amqplib's connection and channels, with a reader and a writer of our own for messages.
 *
 * amqplib connects, negotiates, opens and closes; this version's internals are pinned by package.json, and a test fails
 * when they move. Messages, confirmations and answers do not pass through it: it makes a dozen objects for each, writes
 * each by itself, and loses what JavaScript could hold (see properties.ts).
 */

import type { EventEmitter } from "node:events";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Duplex } from "node:stream";
import { type MessagingError, NotSerializable } from "../errors.ts";
import type { Envelope } from "../message.ts";
import { type Properties, readProperties, Scratch, writeProperties } from "./properties.ts";
import { within } from "./waiting.ts";

/** What of amqplib's connection is used here. */
interface BaseConnection extends EventEmitter {
  readonly stream: Duplex;
  rest: Buffer;
  recvSinceLastCheck: boolean;
  blocked: boolean;
  readonly frameMax: number;
  readonly maxFrameSize: number;
  open(fields: object, opened: (error: Error | null) => void): void;
  close(closed: () => void): void;
  recvFrame(): BaseFrame | false;
  onSocketError(error: Error): void;
  sendBytes(bytes: Buffer): void;
}

interface BaseFrame {
  readonly id?: number;
  readonly fields?: { readonly replyCode?: number; readonly replyText?: string };
}

/** What of amqplib's channel is used here. */
interface BaseChannel extends EventEmitter {
  readonly ch: number;
  close(): Promise<void>;
  checkQueue(queue: string): Promise<{ readonly consumerCount: number }>;
  prefetch(count: number): Promise<unknown>;
  consume(queue: string, receive: (message: unknown) => void, options: object): Promise<unknown>;
  cancel(tag: string): Promise<unknown>;
}

interface BaseModel extends EventEmitter {
  createChannel(): Promise<BaseChannel>;
  createConfirmChannel(): Promise<BaseChannel>;
}

const load = createRequire(import.meta.url);
// By path: the package exports only its front door.
const folder = join(dirname(load.resolve("amqplib")), "lib");
const { Connection } = load(join(folder, "connection.js")) as { Connection: new (stream: Duplex) => BaseConnection };
const { ChannelModel } = load(join(folder, "channel_model.js")) as {
  ChannelModel: new (connection: BaseConnection) => BaseModel;
};

const METHOD = 1;
const HEADER = 2;
const HEARTBEAT = 8;
const FRAME_END = 206;
/** Bytes of a frame besides its payload. */
const FRAME_OVERHEAD = 8;
/** Bytes of a content header's payload besides the properties: class, weight and body size. */
const HEADER_OVERHEAD = 12;
const TLS_ALERT = 0x15;

const CONNECTION_CLOSE = 0x000a0032;
const BASIC_PUBLISH = 0x003c0028;
const BASIC_RETURN = 0x003c0032;
const BASIC_DELIVER = 0x003c003c;
const BASIC_ACK = 0x003c0050;
const BASIC_REJECT = 0x003c005a;
const BASIC_NACK = 0x003c0078;

const CHUNK = 65_536;
const CLOSE_MS = 3_000;

/** The broker's reason for ending a connection or a channel. */
export class Closed extends Error {
  override readonly name = "Closed";
  readonly code: number;

  constructor(code: number, reason: string) {
    super(reason);
    this.code = code;
  }
}

/** The server speaks TLS on a connection without. */
export class SpeaksTls extends Error {
  override readonly name = "SpeaksTls";
}

/** A connection. `ended` resolves with the reason once it is gone. */
export class Wire extends Connection {
  readonly ended: Promise<Error>;
  /** When the last bytes came, in ms of `performance.now()`. */
  heard = performance.now();
  readonly #model: BaseModel;
  readonly #lanes: (Lane | undefined)[] = [];
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  /** What has come of a frame that is not whole yet. */
  #parts: Buffer[] = [];
  #gathered = 0;
  #opened = false;
  #closed: Closed | undefined;
  #isEnded = false;
  #chunk = Buffer.allocUnsafe(CHUNK);
  #begin = 0;
  #end = 0;
  #scheduled = false;
  readonly #flush = () => this.flush();

  constructor(stream: Duplex) {
    super(stream);
    this.#model = new ChannelModel(this);
    // It passes on what the connection emits, and an error that nobody hears ends the process.
    this.#model.on("error", () => undefined);
    this.ended = new Promise((resolve) => {
      let reason: Error | undefined;
      this.on("error", (error: Error) => {
        reason ??= error;
      });
      this.once("close", (error?: Error) => {
        this.#isEnded = true;
        resolve(this.#closed ?? reason ?? error ?? new Error("the connection was closed"));
      });
    });
    void this.ended.then(() => stream.destroy());
    // amqplib does not notice a socket that is closed here: its timers would go on, and its channels never end.
    stream.once("close", () => {
      if (!this.#isEnded) this.onSocketError(new Error("the connection was closed"));
    });
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Bytes that the broker has not read yet. */
  get unread(): number {
    return this.stream.writableLength + this.#end - this.#begin;
  }

  /** Negotiate and log in. Rejects with Closed if the broker refuses, or with SpeaksTls. */
  login(fields: object): Promise<void> {
    return new Promise((resolve, reject) => {
      this.open(fields, (error) => {
        this.#opened = error === null;
        if (error === null) resolve();
        else reject(this.#closed ?? error);
      });
    });
  }

  /** Return the next frame that is amqplib's, or false if none is there yet. */
  override recvFrame(): BaseFrame | false {
    for (;;) {
      const buffer = this.#buffer;
      const at = this.#at;
      const left = buffer.length - at;
      let needed = FRAME_OVERHEAD;
      if (left >= FRAME_OVERHEAD) {
        const size = buffer.readUInt32BE(at + 3);
        if (left >= size + FRAME_OVERHEAD) {
          this.#at = at + size + FRAME_OVERHEAD;
          if (buffer[at] === HEARTBEAT) continue; // while it lets a client wait for the login, too
          const lane = this.#lanes[buffer.readUInt16BE(at + 1)];
          if (lane?.takes(buffer, at, size)) continue;
          return this.#amqplibs(buffer, at);
        }
        if (size > this.maxFrameSize) return this.#amqplibs(buffer, at);
        needed += size;
      }
      if (!this.#gather(needed)) return false;
    }
  }

  /** Read until so many bytes are there. Return false if they are not there yet. */
  #gather(needed: number): boolean {
    const parts = this.#parts;
    if (parts.length === 0) {
      this.#gathered = this.#buffer.length - this.#at;
      if (this.#gathered > 0) parts.push(this.#buffer.subarray(this.#at));
    }
    do {
      const incoming = this.stream.read() as Buffer | null;
      if (incoming === null) return false;
      this.recvSinceLastCheck = true;
      this.heard = performance.now();
      parts.push(incoming);
      this.#gathered += incoming.length;
      if (!this.#opened && parts[0]![0] === TLS_ALERT) throw new SpeaksTls("a TLS alert"); // of seven bytes
    } while (this.#gathered < needed);
    // Once: a large frame may come in a thousand pieces.
    this.#buffer = parts.length === 1 ? parts[0]! : Buffer.concat(parts, this.#gathered);
    this.#at = 0;
    this.#parts = [];
    return true;
  }

  #amqplibs(buffer: Buffer, at: number): BaseFrame | false {
    this.rest = buffer.subarray(at);
    const frame = super.recvFrame();
    this.#buffer = this.rest;
    this.#at = 0;
    if (frame && frame.id === CONNECTION_CLOSE && !this.#opened) {
      this.#closed = new Closed(frame.fields?.replyCode ?? 0, frame.fields?.replyText ?? "");
    }
    return frame;
  }

  /** Return a place for so many bytes, which are written together with others at the end of this turn of the loop. */
  place(size: number): { buffer: Buffer; at: number } {
    if (this.#end + size > this.#chunk.length) {
      this.flush();
      this.#chunk = Buffer.allocUnsafe(Math.max(CHUNK, size));
      this.#begin = this.#end = 0;
    }
    const at = this.#end;
    this.#end += size;
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#flush);
    }
    return { buffer: this.#chunk, at };
  }

  flush(): void {
    this.#scheduled = false;
    if (this.#end === this.#begin) return;
    const bytes = this.#chunk.subarray(this.#begin, this.#end);
    this.#begin = this.#end;
    if (!this.#isEnded) this.sendBytes(bytes);
  }

  /** Open a channel; with `confirmed` the broker confirms what is published. Rejects if the connection ends before. */
  async lane(confirmed: boolean): Promise<Lane> {
    const channel = await (confirmed ? this.#model.createConfirmChannel() : this.#model.createChannel());
    const lane = new Lane(this, channel);
    this.#lanes[lane.number] = lane;
    channel.once("close", () => {
      if (this.#lanes[lane.number] === lane) this.#lanes[lane.number] = undefined;
    });
    return lane;
  }

  /** Close the connection, in three seconds at most. */
  async end(): Promise<void> {
    if (!this.#isEnded) {
      this.flush();
      try {
        await within(Promise.race([new Promise<void>((resolve) => this.close(resolve)), this.ended]), CLOSE_MS);
      } catch {
        // It is closing already, or there is no answer.
      }
    }
    this.stream.destroy();
  }
}

/** A message as a lane reads it. */
export interface Received extends Properties {
  readonly tag: number;
  readonly redelivered: boolean;
  readonly consumer: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
}

const EMPTY = Buffer.alloc(0);
const scratch = new Scratch();

/** A channel. Set what is called with its messages before any can come. */
export class Lane {
  readonly number: number;
  /** Called with each confirmation: the tag, whether it stands for all before, and whether the broker has stored it. */
  onConfirm: (tag: number, multiple: boolean, stored: boolean) => void = () => undefined;
  /** Called with a message that no queue takes, before its confirmation. */
  onReturn: (exchange: string, routingKey: string, messageId: string) => void = () => undefined;
  onDelivery: (received: Received) => void = () => undefined;
  /** Called once, with the broker's reason if it has one. */
  onEnd: (reason: Error | undefined) => void = () => undefined;
  readonly channel: BaseChannel;
  readonly #wire: Wire;
  #ended = false;
  #tag = 0;

  // The message that is being read.
  #returned = false;
  #at = 0;
  #redelivered = false;
  #consumer = "";
  #exchange = "";
  #routingKey = "";
  #properties: Properties | undefined;
  #body: Buffer = EMPTY;
  #size = 0;
  #got = 0;

  constructor(wire: Wire, channel: BaseChannel) {
    this.#wire = wire;
    this.channel = channel;
    this.number = channel.ch;
    let reason: Error | undefined;
    channel.removeAllListeners("ack");
    channel.removeAllListeners("nack");
    channel.on("error", (error: Error & { code?: number }) => {
      // What was written before goes before the answer to the broker's close: nothing may follow that.
      wire.flush();
      reason ??= new Closed(error.code ?? 0, error.message);
    });
    channel.once("close", () => {
      this.#ended = true;
      this.onEnd(reason);
    });
  }

  get ended(): boolean {
    return this.#ended || this.#wire.isEnded;
  }

  /** Publish, mandatory, and return the tag of the confirmation. Throws NotSerializable; nothing is written then. */
  publish(message: Envelope): number {
    const { exchange, routingKey, body } = message;
    const properties = written(message, this.#wire.frameMax);
    const method = 4 + 2 + 1 + Buffer.byteLength(exchange) + 1 + Buffer.byteLength(routingKey) + 1;
    const most = this.#wire.frameMax - FRAME_OVERHEAD;
    const bodies = Math.ceil(body.length / most);
    const size = method + HEADER_OVERHEAD + properties.end + body.length + (2 + bodies) * FRAME_OVERHEAD;
    const { buffer, at: start } = this.#wire.place(size);

    let at = this.#head(buffer, start, METHOD, method);
    at = buffer.writeUInt32BE(BASIC_PUBLISH, at);
    at = buffer.writeUInt16BE(0, at);
    at = short(buffer, at, exchange);
    at = short(buffer, at, routingKey);
    buffer[at++] = 1; // mandatory
    buffer[at++] = FRAME_END;

    at = this.#head(buffer, at, HEADER, HEADER_OVERHEAD + properties.end);
    at = buffer.writeUInt32BE(0x003c0000, at);
    at = buffer.writeUInt32BE(0, at);
    at = buffer.writeUInt32BE(body.length, at);
    at += properties.buffer.copy(buffer, at, 0, properties.end);
    buffer[at++] = FRAME_END;

    for (let from = 0; from < body.length; from += most) {
      const to = Math.min(from + most, body.length);
      at = this.#head(buffer, at, 3, to - from);
      at += body.copy(buffer, at, from, to);
      buffer[at++] = FRAME_END;
    }
    return ++this.#tag;
  }

  #head(buffer: Buffer, at: number, type: number, size: number): number {
    buffer[at] = type;
    buffer.writeUInt16BE(this.number, at + 1);
    return buffer.writeUInt32BE(size, at + 3);
  }

  ack(tag: number): void {
    this.#answer(BASIC_ACK, tag, 0);
  }

  /** Refuse a message. The broker counts it as a failure; it does not count a nack, and would deliver for ever. */
  reject(tag: number, requeue: boolean): void {
    this.#answer(BASIC_REJECT, tag, requeue ? 1 : 0);
  }

  /** Give a message back, which is not counted. */
  giveBack(tag: number): void {
    this.#answer(BASIC_NACK, tag, 2);
  }

  #answer(method: number, tag: number, bits: number): void {
    if (this.ended) return;
    const { buffer, at } = this.#wire.place(13 + FRAME_OVERHEAD);
    this.#head(buffer, at, METHOD, 13);
    buffer.writeUInt32BE(method, at + 7);
    buffer.writeUInt32BE(Math.floor(tag / 2 ** 32), at + 11);
    buffer.writeUInt32BE(tag % 2 ** 32, at + 15);
    buffer[at + 19] = bits;
    buffer[at + 20] = FRAME_END;
  }

  /** Close the channel; what was written before goes first. */
  async close(): Promise<void> {
    if (this.ended) return;
    this.#wire.flush();
    try {
      await this.channel.close();
    } catch {
      // It has ended meanwhile.
    }
  }

  /** Take a frame of a message or a confirmation. Return false for any other. */
  takes(buffer: Buffer, at: number, size: number): boolean {
    const type = buffer[at];
    const payload = at + 7;
    if (type === METHOD) return this.#takesMethod(buffer, payload);
    if (type === HEADER) {
      this.#size = buffer.readUInt32BE(payload + 4) * 2 ** 32 + buffer.readUInt32BE(payload + 8);
      this.#got = 0;
      this.#properties = readProperties(buffer, payload + HEADER_OVERHEAD, payload + size);
    } else {
      this.#takesBody(buffer, payload, size);
    }
    if (this.#got >= this.#size) this.#complete();
    return true;
  }

  #takesBody(buffer: Buffer, at: number, size: number): void {
    if (size === this.#size) {
      this.#body = buffer.subarray(at, at + size);
    } else {
      if (this.#got === 0) this.#body = Buffer.allocUnsafe(this.#size);
      buffer.copy(this.#body, this.#got, at, at + size);
    }
    this.#got += size;
  }

  #takesMethod(buffer: Buffer, at: number): boolean {
    switch (buffer.readUInt32BE(at)) {
      case BASIC_ACK:
        this.onConfirm(tagAt(buffer, at + 4), (buffer[at + 12]! & 1) !== 0, true);
        return true;
      case BASIC_NACK:
        this.onConfirm(tagAt(buffer, at + 4), (buffer[at + 12]! & 1) !== 0, false);
        return true;
      case BASIC_DELIVER: {
        const tag = at + 5 + buffer[at + 4]!;
        this.#returned = false;
        this.#consumer = shortAt(buffer, at + 4);
        this.#at = tagAt(buffer, tag);
        this.#redelivered = buffer[tag + 8] !== 0;
        this.#addressed(buffer, tag + 9);
        return true;
      }
      case BASIC_RETURN:
        this.#returned = true;
        this.#addressed(buffer, at + 7 + buffer[at + 6]!);
        return true;
      default:
        return false;
    }
  }

  #addressed(buffer: Buffer, at: number): void {
    this.#exchange = shortAt(buffer, at);
    this.#routingKey = shortAt(buffer, at + 1 + buffer[at]!);
  }

  #complete(): void {
    const properties = this.#properties!;
    const body = this.#body;
    this.#properties = undefined;
    this.#body = EMPTY;
    if (this.#returned) {
      this.onReturn(this.#exchange, this.#routingKey, properties.messageId);
      return;
    }
    this.onDelivery({
      ...properties,
      tag: this.#at,
      redelivered: this.#redelivered,
      consumer: this.#consumer,
      exchange: this.#exchange,
      routingKey: this.#routingKey,
      body,
    });
  }
}

/** Return the properties of a message in bytes, in a buffer that the next call uses again. Throws NotSerializable. */
export function written(message: Envelope, frameMax: number): Scratch {
  scratch.end = 0;
  try {
    writeProperties(scratch, message);
    checkShort("exchange", message.exchange);
    checkShort("routing key", message.routingKey);
  } catch (error) {
    throw unwritable(error);
  }
  const size = scratch.end + HEADER_OVERHEAD + FRAME_OVERHEAD;
  if (size > frameMax) {
    throw new NotSerializable(
      `headers and properties are ${size.toLocaleString("en")} bytes, the broker takes at most ` +
        `${frameMax.toLocaleString("en")} in a frame`,
      { remedy: "Send them as data" },
    );
  }
  return scratch;
}

function checkShort(name: string, text: string): void {
  if (text.length > 63 && Buffer.byteLength(text) > 255) throw new RangeError(`the ${name} is longer than 255 bytes`);
}

function unwritable(error: unknown): MessagingError {
  const reason = error instanceof Error && error.message ? error.message : String(error);
  return new NotSerializable(`its properties can't be written: ${reason}`, {
    cause: error,
    remedy: "Send headers of text, numbers, booleans, null, Dates, lists and objects of them",
  });
}

function short(buffer: Buffer, at: number, text: string): number {
  const size = buffer.write(text, at + 1);
  buffer[at] = size;
  return at + 1 + size;
}

function shortAt(buffer: Buffer, at: number): string {
  return buffer.toString("utf8", at + 1, at + 1 + buffer[at]!);
}

function tagAt(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * 2 ** 32 + buffer.readUInt32BE(at + 4);
}
