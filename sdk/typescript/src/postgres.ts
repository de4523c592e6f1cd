/** A table in PostgreSQL. Only this module needs `pg`, which it imports when it is first used. */

import { typeName } from "./checks.ts";
import { ConfigurationError } from "./errors.ts";

/** What the SDK needs of a pool of `pg`. */
export interface PostgresPool {
  query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
  connect(): Promise<PostgresConnection>;
}

/** What the SDK needs of a connection of such a pool. */
export interface PostgresConnection {
  query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
  release(error?: boolean): void;
}

/** A value that the table cannot hold, such as text with NUL. */
export class Unstorable extends Error {
  override readonly name = "Unstorable";
}

interface OwnPool extends PostgresPool {
  on(event: "error", listener: (error: Error) => void): unknown;
  end(): Promise<void>;
}

const TIMEOUT_MS = 5_000;
const QUERY_MS = 10_000;
const NAME = /^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$/;
/** Class 22 of PostgreSQL's errors, data exceptions, and characters that the encoding lacks. */
const DATA_EXCEPTION = /^22/;

/** Run statements over a connection string's own connection, or over a pool of the application's. */
export class Postgres {
  readonly #address: string | PostgresPool;
  #pool: Promise<PostgresPool> | undefined;
  #own: OwnPool | undefined;

  constructor(address: string | PostgresPool) {
    const isPool = typeof address === "object" && address !== null && typeof address.query === "function";
    if (typeof address !== "string" && !isPool) {
      const remedy = "Pass a connection string, such as postgresql://…, or a pool of pg";
      throw new ConfigurationError(`address: ${typeName(address)} is not PostgreSQL's`, { remedy });
    }
    this.#address = address;
  }

  /** Return the pool: the application's, or one of a single connection. */
  pool(): Promise<PostgresPool> {
    this.#pool ??= typeof this.#address === "string" ? this.#open(this.#address) : Promise.resolve(this.#address);
    return this.#pool;
  }

  async #open(connectionString: string): Promise<PostgresPool> {
    const { Pool, Client } = await driver();
    try {
      new Client({ connectionString });
    } catch {
      // Without the cause: it may quote the password.
      const remedy =
        "Write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE, with special characters escaped as %2F";
      throw new ConfigurationError("address: it is not a valid connection string of PostgreSQL", { remedy });
    }
    // A server that answers nothing must not hold the only connection for ever.
    const timeouts = { connectionTimeoutMillis: TIMEOUT_MS, query_timeout: QUERY_MS, keepAlive: true };
    this.#own = new Pool({ connectionString, max: 1, allowExitOnIdle: true, ...timeouts });
    // A connection that breaks while nobody uses it is replaced at the next statement.
    this.#own.on("error", () => undefined);
    return this.#own;
  }

  /** Return the rows of a statement. Rejects with pg's errors. */
  async fetch(statement: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    const pool = await this.pool();
    return (await pool.query(statement, values)).rows;
  }

  /** End the connection, unless the application passed the pool. */
  async close(): Promise<void> {
    const own = this.#own;
    this.#own = this.#pool = undefined;
    await own?.end();
  }
}

interface Driver {
  readonly Pool: new (options: object) => OwnPool;
  readonly Client: new (options: object) => unknown;
}

async function driver(): Promise<Driver> {
  try {
    const pg = (await import("pg")) as unknown as Driver & { readonly default?: Driver };
    return pg.default ?? pg;
  } catch (error) {
    throw new ConfigurationError("pg is not installed", { remedy: "Install it with `npm install pg`", cause: error });
  }
}

/** A table that the first statement creates: `table` is its name, with or without schema. */
export class PostgresTable extends Postgres {
  readonly #table: string;
  readonly #columns: string;
  #created: Promise<void> | undefined;
  #escapes = false;

  constructor(address: string | PostgresPool, table: string, columns: string) {
    if (typeof table !== "string" || !NAME.test(table)) {
      const problem = `table: ${JSON.stringify(table)?.slice(0, 60)} is not a valid table name`;
      throw new ConfigurationError(problem, { remedy: "Use lower-case letters, digits and _" });
    }
    super(address);
    this.#table = table;
    this.#columns = columns;
  }

  /**
   * Run a statement on `{table}` and return its rows. Tries once more if the server has closed the connection.
   *
   * Rejects with Unstorable for a value the table cannot hold.
   */
  protected async execute(statement: string, values: readonly unknown[]): Promise<Record<string, unknown>[]> {
    const text = statement.replaceAll("{table}", this.#table);
    try {
      await this.#create();
      return await this.fetch(text, this.#storable(values));
    } catch (error) {
      if (isData(error)) throw new Unstorable((error as Error).message);
      if (!isBroken(error)) throw error;
    }
    return await this.fetch(text, this.#storable(values));
  }

  /** Escape text to ASCII in a database that is not UTF-8. */
  #storable(values: readonly unknown[]): unknown[] {
    if (!this.#escapes) return [...values];
    return values.map((value) => (typeof value === "string" ? ascii(value) : value));
  }

  #create(): Promise<void> {
    this.#created ??= this.#make();
    this.#created.catch(() => {
      this.#created = undefined;
    });
    return this.#created;
  }

  async #make(): Promise<void> {
    const connection = await (await this.pool()).connect();
    let failed = true;
    try {
      await connection.query("BEGIN");
      // One process after the other: IF NOT EXISTS fails if two make the same table at the same moment.
      await connection.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [this.#table]);
      await connection.query(`CREATE TABLE IF NOT EXISTS ${this.#table} (${this.#columns})`);
      const { rows } = await connection.query("SHOW server_encoding");
      await connection.query("COMMIT");
      this.#escapes = !["UTF8", "SQL_ASCII"].includes(String(rows[0]?.server_encoding));
      failed = false;
    } finally {
      connection.release(failed);
    }
  }
}

function isData(error: unknown): boolean {
  return DATA_EXCEPTION.test(String((error as { code?: unknown } | null)?.code));
}

/** Return true for an error of the connection: the server has given no answer of its own, or is going away. */
function isBroken(error: unknown): boolean {
  const code = String((error as { code?: unknown } | null)?.code);
  return /^(E[A-Z]+|57P0[123]|08...)$/.test(code) || /connection terminated/i.test(String(error));
}

/** Return text with an escape in place of each character beyond ASCII, as the Python SDK writes it. */
export function ascii(text: string): string {
  return text.replace(/[^\0-\x7f]/gu, (character) => {
    const hex = character.codePointAt(0)!.toString(16);
    if (hex.length <= 2) return `\\x${hex.padStart(2, "0")}`;
    return hex.length <= 4 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
  });
}
