/** Where a router's model comes from: a file, a web server, or the platform's registry. */

import { open, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { ConfigurationError } from "../errors.ts";
import { Postgres } from "../postgres.ts";
import { MAX_MODEL_BYTES, ModelRefused } from "./model.ts";

/**
 * `off`: the model is not asked. `shadow`: it decides, and the rules are obeyed. `canary`: it is obeyed for a share of
 * the messages, by a hash of their ids. `on`: for all but the explored share.
 */
export const MODES = ["off", "shadow", "canary", "on"] as const;

/** How far a model is obeyed, see `MODES`. */
export type Mode = (typeof MODES)[number];

/** A model's file, and the mode that its source asks for. No content: the source names no model. */
export interface Fetched {
  readonly content: Buffer | undefined;
  readonly mode?: Mode;
  /** Percent. */
  readonly canary?: number;
}

/** A place of models. `shown` names it without a login. */
export interface ModelSource {
  readonly shown: string;
  /** Return what is there now. Rejects with ModelRefused if there is none, and with anything if it can't be asked. */
  fetch(tenant: string): Promise<Fetched>;
  close(): Promise<void>;
}

const TIMEOUT_MS = 10_000;
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
const REMEDY = "Pass a path, or an address file://, https:// or postgresql://";

/** Return the source that a path or an address names. Throws ConfigurationError. */
export function sourceOf(model: string): ModelSource {
  if (!model.includes("://")) return new FileSource(model);
  const address = URL.canParse(model) ? new URL(model) : undefined;
  if (address === undefined || !isReadable(address))
    throw new ConfigurationError("model: it is not a valid address", { remedy: REMEDY });
  const { protocol, hostname } = address;
  if (protocol === "file:" && (hostname === "" || hostname === "localhost")) {
    return new FileSource(fileURLToPath(`file://${address.pathname}`));
  }
  if (protocol === "https:" || (protocol === "http:" && LOOPBACK.has(hostname))) return new WebSource(address);
  if (protocol === "postgresql:" || protocol === "postgres:") return new RegistrySource(model, address);
  throw new ConfigurationError(`model: an address ${protocol.slice(0, 20)}// can't be read`, { remedy: REMEDY });
}

/** Return true if each percent sign of the login begins an escape. */
function isReadable({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}

/** Return an address without its login and query. */
function withoutLogin({ protocol, host, pathname }: URL): string {
  return `${protocol}//${host}${pathname}`;
}

class FileSource implements ModelSource {
  readonly shown: string;

  constructor(path: string) {
    this.shown = path;
  }

  async fetch(): Promise<Fetched> {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      // To open a pipe waits for its writer, for ever.
      if ((await stat(this.shown)).isFIFO()) throw new Error("a pipe is not a file");
      file = await open(this.shown, "r");
    } catch (error) {
      throw new ModelRefused(`there is no model: ${(error as Error).message}`, { remedy: REMEDY });
    }
    try {
      const content = Buffer.alloc(MAX_MODEL_BYTES + 1);
      const { bytesRead } = await file.read(content, 0, content.length, 0);
      return { content: content.subarray(0, bytesRead) };
    } finally {
      await file.close();
    }
  }

  async close(): Promise<void> {}
}

class WebSource implements ModelSource {
  readonly shown: string;
  readonly #address: URL;
  readonly #headers: Record<string, string> = {};

  constructor(address: URL) {
    this.shown = withoutLogin(address);
    this.#address = new URL(address);
    if (address.username !== "") {
      const login = `${decodeURIComponent(address.username)}:${decodeURIComponent(address.password)}`;
      this.#headers.authorization = `Basic ${Buffer.from(login).toString("base64")}`;
      this.#address.username = this.#address.password = "";
    }
  }

  async fetch(): Promise<Fetched> {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    // A redirect is no answer: it may lead away from TLS, and from whom the operator trusts.
    const response = await fetch(this.#address, { headers: this.#headers, signal, redirect: "manual" });
    if (response.status >= 500) throw new Error(`it answers ${response.status}`);
    if (!response.ok || response.body === null) {
      throw new ModelRefused(`${this.shown}: there is no model, it answers ${response.status}`, { remedy: REMEDY });
    }
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of response.body) {
      parts.push(part);
      size += part.length;
      if (size > MAX_MODEL_BYTES) break;
    }
    return { content: Buffer.concat(parts) };
  }

  async close(): Promise<void> {}
}

const CURRENT = "FROM tenants.routing_current WHERE cliente_id = $1";

/** The registry's view of the tenant's present model. The content is fetched only when the version changes. */
class RegistrySource implements ModelSource {
  readonly shown: string;
  readonly #database: Postgres;
  #held: { readonly version: unknown; readonly content: Buffer } | undefined;

  constructor(model: string, address: URL) {
    this.shown = withoutLogin(address);
    this.#database = new Postgres(model);
  }

  async fetch(tenant: string): Promise<Fetched> {
    const [row] = await this.#database.fetch(`SELECT mode, canary, version ${CURRENT}`, [tenant]);
    if (row === undefined) {
      const problem = `${this.shown}: it has no model for ${tenant}, or not for this login`;
      throw new ModelRefused(problem, { remedy: "Run `kryonix router access` and `kryonix router train --publish`" });
    }
    const mode = { mode: row.mode as Mode, canary: Number(row.canary) };
    if (row.version === null) return { content: undefined, ...mode };
    if (this.#held?.version !== row.version) {
      const [found] = await this.#database.fetch(`SELECT content ${CURRENT}`, [tenant]);
      this.#held = { version: row.version, content: Buffer.from(found!.content as Uint8Array) };
    }
    return { content: this.#held!.content, ...mode };
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}
