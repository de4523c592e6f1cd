/** A server that speaks as much AMQP as a client needs to send and to consume, and that can be held up. */

import { createRequire } from "node:module";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";

const load = createRequire(import.meta.url);
const defs = load(join(dirname(load.resolve("amqplib")), "lib", "defs.js")) as {
  encodeMethod(id: number, channel: number, fields: object): Buffer;
  readonly [name: string]: unknown;
};

const METHOD = 1;
const BODY = 3;
const HEADER_BYTES = 8;
const FRAME_OVERHEAD = 8;

/** What is answered to a method, with the fields of the answer. */
const ANSWERS: Readonly<Record<string, readonly [string, object]>> = {
  ConnectionStartOk: ["ConnectionTune", { channelMax: 2047, frameMax: 131_072, heartbeat: 0 }],
  ConnectionOpen: ["ConnectionOpenOk", {}],
  ConnectionClose: ["ConnectionCloseOk", {}],
  ChannelOpen: ["ChannelOpenOk", {}],
  ChannelClose: ["ChannelCloseOk", {}],
  ConfirmSelect: ["ConfirmSelectOk", {}],
  QueueDeclare: ["QueueDeclareOk", { queue: "queue", messageCount: 0, consumerCount: 1 }],
  BasicQos: ["BasicQosOk", {}],
  BasicConsume: ["BasicConsumeOk", { consumerTag: "0" }],
  BasicCancel: ["BasicCancelOk", { consumerTag: "0" }],
};

const NAMES = new Map(["ConnectionTuneOk", "BasicPublish", ...Object.keys(ANSWERS)].map((name) => [idOf(name), name]));

function idOf(name: string): number {
  return defs[name] as number;
}

export class FakeBroker implements AsyncDisposable {
  port = 0;
  /** The number of connections so far. */
  accepted = 0;
  /** The names of the methods so far. */
  readonly heard: string[] = [];
  /** The small bodies of messages so far. */
  readonly bodies: string[] = [];
  /** Called with each method; one that returns true is left unanswered. */
  holds: (method: string) => boolean = () => false;
  /** Called with each method; one for which it returns a code and a text is refused. */
  refuses: (method: string) => readonly [number, string] | undefined = () => undefined;
  /** Called after the confirmation of each message; undefined: none is confirmed. */
  confirmed: (() => void) | undefined;
  #tag = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server = createServer((socket) => this.#serve(socket));

  static async open(): Promise<FakeBroker> {
    const broker = new FakeBroker();
    await new Promise<void>((resolve) => broker.#server.listen(0, "127.0.0.1", resolve));
    broker.port = (broker.#server.address() as { port: number }).port;
    return broker;
  }

  get uri(): string {
    return `amqp://kryonix_acme:secret@127.0.0.1:${this.port}/%2Fcliente_acme`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  count(method: string): number {
    return this.heard.filter((each) => each === method).length;
  }

  /** Read nothing more of what clients send. */
  freeze(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  thaw(): void {
    for (const socket of this.#sockets) socket.resume();
  }

  /** Close every connection. */
  break(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Close every connection, and take no more. */
  cut(): void {
    this.#server.close();
    this.break();
  }

  #serve(socket: Socket): void {
    this.accepted++;
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => undefined);
    let [rest, greeted] = [Buffer.alloc(0) as Buffer, false];
    socket.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      if (!greeted && rest.length >= HEADER_BYTES) {
        greeted = true;
        rest = rest.subarray(HEADER_BYTES);
        const mechanisms = { mechanisms: Buffer.from("PLAIN"), locales: Buffer.from("en_US") };
        this.#send(socket, 0, "ConnectionStart", {
          versionMajor: 0,
          versionMinor: 9,
          serverProperties: {},
          ...mechanisms,
        });
      }
      while (greeted && rest.length >= FRAME_OVERHEAD) {
        const size = rest.readUInt32BE(3) + FRAME_OVERHEAD;
        if (rest.length < size) break;
        if (rest[0] === BODY) this.#stored(socket, rest.readUInt16BE(1), rest.subarray(7, size - 1));
        if (rest[0] === METHOD) this.#answer(socket, rest.readUInt16BE(1), NAMES.get(rest.readUInt32BE(7)) ?? "");
        rest = rest.subarray(size);
      }
    });
  }

  /** Confirm a message of one body frame. */
  #stored(socket: Socket, channel: number, body: Buffer): void {
    if (body.length < 100) this.bodies.push(body.toString());
    if (this.confirmed === undefined) return;
    this.#send(socket, channel, "BasicAck", { deliveryTag: ++this.#tag, multiple: false });
    this.confirmed();
  }

  #answer(socket: Socket, channel: number, method: string): void {
    this.heard.push(method);
    const refusal = this.refuses(method);
    if (refusal !== undefined) {
      const [replyCode, replyText] = refusal;
      const closing = { replyCode, replyText, classId: 0, methodId: 0 };
      this.#send(socket, channel, channel === 0 ? "ConnectionClose" : "ChannelClose", closing);
      return;
    }
    const answer = ANSWERS[method];
    if (answer !== undefined && !this.holds(method)) this.#send(socket, channel, ...answer);
  }

  #send(socket: Socket, channel: number, method: string, fields: object): void {
    socket.write(defs.encodeMethod(idOf(method), channel, fields));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
  }
}
