/** Handle a message once, even if it is delivered twice: remember its id, in memory or in PostgreSQL. */

import { checkedCount } from "./checks.ts";
import { type PostgresPool, PostgresTable, Unstorable } from "./postgres.ts";

/** `mine`: handle the message now. `done`: it was handled before. `busy`: another consumer is handling it. */
export type Claim = "mine" | "done" | "busy";

const SIZE = 100_000;
const MAX_SIZE = 10_000_000;

/** A key that a store can never hold: its message is handled without it. */
export class NeverStored extends Error {
  override readonly name = "NeverStored";
}

/**
 * Remember handled messages. `key` is queue and message id.
 *
 * A claim neither done nor released (its consumer died) ends after `lease` seconds. `claim` rejects with NeverStored for
 * a key that it can never store: the message is then handled without it. Any other error gives the message back.
 */
export interface IdempotencyStore {
  claim(key: string, lease: number): Promise<Claim>;
  done(key: string): Promise<void>;
  release(key: string): Promise<void>;
  close(): Promise<void>;
}

/** Remember the last `size` messages of this process. A restart forgets them. */
export class MemoryIdempotency implements IdempotencyStore {
  readonly #size: number;
  /** The end of a claim's lease, in ms; undefined: done. In the order of their claims. */
  readonly #until = new Map<string, number | undefined>();

  constructor(size: number = SIZE) {
    this.#size = checkedCount("size", size, MAX_SIZE);
  }

  async claim(key: string, lease: number): Promise<Claim> {
    const now = performance.now();
    if (this.#until.has(key)) {
      const until = this.#until.get(key);
      if (until === undefined) return "done";
      if (until > now) return "busy";
      this.#until.delete(key);
    }
    this.#until.set(key, now + lease * 1000);
    if (this.#until.size > this.#size) this.#until.delete(this.#until.keys().next().value!);
    return "mine";
  }

  async done(key: string): Promise<void> {
    this.#until.set(key, undefined);
  }

  async release(key: string): Promise<void> {
    this.#until.delete(key);
  }

  async close(): Promise<void> {}
}

/**
 * Remember in a table shared by all consumers, in every language, created at first use.
 *
 * Delete old rows yourself: `DELETE FROM kryonix_handled WHERE at < now() - interval '7 days'`.
 */
export class PostgresIdempotency extends PostgresTable implements IdempotencyStore {
  /** `address` is a connection string, or a pool of `pg`. */
  constructor(address: string | PostgresPool, table = "kryonix_handled") {
    super(address, table, "key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), until timestamptz");
  }

  /** Claim with one statement: of two consumers exactly one gets a row back. */
  async claim(key: string, lease: number): Promise<Claim> {
    try {
      const won = await this.execute(
        "INSERT INTO {table} AS t (key, until) VALUES ($1, now() + $2 * interval '1 second') " +
          "ON CONFLICT (key) DO UPDATE SET until = excluded.until, at = now() WHERE t.until <= now() RETURNING true",
        [key, lease],
      );
      if (won.length > 0) return "mine";
      const [row] = await this.execute("SELECT until IS NULL AS done FROM {table} WHERE key = $1", [key]);
      return row?.done === true ? "done" : "busy";
    } catch (error) {
      if (error instanceof Unstorable) throw new NeverStored(error.message, { cause: error });
      throw error;
    }
  }

  async done(key: string): Promise<void> {
    await this.execute("UPDATE {table} SET until = NULL, at = now() WHERE key = $1", [key]);
  }

  async release(key: string): Promise<void> {
    await this.execute("DELETE FROM {table} WHERE key = $1 AND until IS NOT NULL", [key]);
  }
}
