/** One node of a broker, and a connection to it. */

import { connect as connectPlain, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectSecure } from "node:tls";
import { Wire } from "./wire.ts";

/** A node's address with a login. */
export interface Node {
  readonly scheme: "amqp" | "amqps";
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
  /** True for a login with the client's certificate instead of a password. */
  readonly external: boolean;
}

/** Return a node's address without credentials, for messages. */
export function placeOf(node: Node): string {
  return `${node.scheme}://${hostPort(node)}${node.vhost}`;
}

export function hostPort(node: Pick<Node, "host" | "port">): string {
  return node.host.includes(":") ? `[${node.host}]:${node.port}` : `${node.host}:${node.port}`;
}

const ALIVE_MS = 2_000;
const HEADER = Buffer.from("AMQP\0\0\x09\x01", "latin1");
const FRAME_MAX = 131_072;

const CLIENT = {
  product: "@kryonix/sdk",
  platform: `Node.js ${process.version}`,
  capabilities: {
    publisher_confirms: true,
    exchange_exchange_bindings: true,
    "basic.nack": true,
    consumer_cancel_notify: true,
    "connection.blocked": true,
    authentication_failure_close: true,
  },
};

/** Connect to a node and log in. Aborted, it ends at once. Rejects with whatever is wrong: see failures.ts. */
export async function dial(
  node: Node,
  name: string,
  tls: ConnectionOptions,
  heartbeat: number,
  signal: AbortSignal,
): Promise<Wire> {
  const stream = await reach(node, tls, signal);
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => {
      stream.destroy();
      reject(new Error("given up"));
    });
  });
  aborted.catch(() => undefined);
  try {
    const wire = new Wire(stream);
    await Promise.race([wire.login(fields(node, name, heartbeat)), aborted]);
    return wire;
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

function fields(node: Node, name: string, heartbeat: number): object {
  return {
    clientProperties: { ...CLIENT, connection_name: name },
    mechanism: node.external ? "EXTERNAL" : "PLAIN",
    response: Buffer.from(node.external ? "" : `\0${node.username}\0${node.password}`),
    locale: "en_US",
    channelMax: 0,
    frameMax: FRAME_MAX,
    heartbeat,
    virtualHost: node.vhost,
    capabilities: "",
    insist: 0,
  };
}

/** Return an open socket to a node, with TLS if its scheme says so. */
function reach(node: Node, tls: ConnectionOptions, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const options = { host: node.host, port: node.port, noDelay: true };
    const secure = node.scheme === "amqps";
    const servername = isIP(node.host) ? {} : { servername: node.host };
    const socket = secure
      ? connectSecure({ minVersion: "TLSv1.2", ...tls, ...servername, ...options })
      : connectPlain(options);
    const give = () => {
      socket.destroy();
      reject(new Error("given up"));
    };
    if (signal.aborted) give();
    signal.addEventListener("abort", give, { once: true });
    // It stays: an error after the end of a connection has nobody else to hear it.
    socket.on("error", reject);
    socket.once("close", () => reject(new Error("the connection was closed")));
    socket.once(secure ? "secureConnect" : "connect", () => {
      signal.removeEventListener("abort", give);
      if (secure) socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

/** Return true if a node begins to answer a new connection, for which it asks nobody else, and no login. */
export async function isAlive(node: Node, tls: ConnectionOptions): Promise<boolean> {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), ALIVE_MS);
  try {
    const socket = await reach(node, tls, end.signal);
    end.signal.addEventListener("abort", () => socket.destroy());
    return await new Promise<boolean>((resolve) => {
      socket.once("readable", () => resolve(socket.read() !== null));
      socket.once("close", () => resolve(false));
      socket.write(HEADER);
    }).finally(() => socket.destroy());
  } catch (error) {
    // It may serve another certificate by now, but it lives.
    return error instanceof Error && /CERT|SSL|TLS|SIGNED/.test(String((error as NodeJS.ErrnoException).code));
  } finally {
    clearTimeout(timer);
  }
}
