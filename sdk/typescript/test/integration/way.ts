/** A way to a broker that can be frozen and cut, in the place of a node: what clients see of one that fails. */

import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { createServer as createSecureServer, type TlsOptions } from "node:tls";
import { parseUri } from "../../src/configuration.ts";
import { given } from "./world.ts";

export class Way implements AsyncDisposable {
  port = 0;
  readonly #secure: TlsOptions | undefined;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #frozen = false;
  #server: Server | undefined;

  constructor(secure?: TlsOptions) {
    this.#secure = secure;
  }

  static async open(secure?: TlsOptions): Promise<Way> {
    const way = new Way(secure);
    await way.open();
    return way;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Take connections, at the same port as before. */
  async open(): Promise<void> {
    this.#frozen = false;
    const serve = (socket: Socket) => this.#serve(socket);
    const server = this.#secure === undefined ? createServer(serve) : createSecureServer(this.#secure, serve);
    server.on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => server.listen(this.port, "127.0.0.1", resolve));
    this.#server = server;
    this.port = (server.address() as { port: number }).port;
  }

  #serve(near: Socket): void {
    const { host, port } = parseUri(given.uri).node;
    const far = dial({ host, port, noDelay: true });
    near.setNoDelay(true);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on("data", (data: Buffer) => to.write(data));
      from.on("error", () => undefined);
      from.on("close", () => {
        this.#pairs.delete(pair);
        to.destroy();
      });
      if (this.#frozen) from.pause();
    }
  }

  /** Close every connection, and take no more. */
  async cut(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server?.close(() => resolve()));
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    await closed;
    this.#server = undefined;
  }

  /** Close every connection, and go on taking new ones. */
  break(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Let bytes go nowhere, and tell nobody. New connections are still accepted. */
  freeze(): void {
    this.#frozen = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  thaw(): void {
    this.#frozen = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server !== undefined) await this.cut();
  }
}
