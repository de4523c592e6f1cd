/** A record of every send and its outcome, written in the background. It never delays a send. */

import { appendFile } from "node:fs/promises";
import { checkText } from "./checks.ts";
import { type PostgresPool, PostgresTable } from "./postgres.ts";
import type { Sink } from "./writer.ts";

/** One send and its outcome. It never contains the data. */
export interface AuditRecord {
  readonly at: Date;
  readonly tenant: string;
  readonly application: string;
  readonly messageId: string;
  readonly module: string;
  readonly action: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly priority: number;
  readonly bytes: number;
  /** `confirmed`, or the name of the error. */
  readonly outcome: string;
  readonly milliseconds: number;
}

/** A destination for audit records. If it is slow or fails, sends continue, and lost records are counted. */
export type AuditSink = Sink<AuditRecord>;

/** The fields of a record in files and tables, the same as the Python SDK's. */
const COLUMNS = [
  "at",
  "tenant",
  "application",
  "message_id",
  "module",
  "action",
  "exchange",
  "routing_key",
  "priority",
  "bytes",
  "outcome",
  "milliseconds",
] as const;

/** Append records to a file, as one JSON object per line. */
export class JsonLinesAudit implements AuditSink {
  readonly #path: string;

  constructor(path: string) {
    checkText("path", path);
    this.#path = path;
  }

  async write(records: readonly AuditRecord[]): Promise<void> {
    const lines = records.map((record) => {
      const values = valuesOf(record);
      const fields = COLUMNS.map((name, at) => [name, name === "at" ? stamp(record.at) : values[at]]);
      return `${JSON.stringify(Object.fromEntries(fields))}\n`;
    });
    await appendFile(this.#path, lines.join(""));
  }

  async close(): Promise<void> {}
}

function stamp(at: Date): string {
  return at.toISOString().replace("Z", "+00:00");
}

function valuesOf(record: AuditRecord): unknown[] {
  return [
    record.at,
    record.tenant,
    record.application,
    record.messageId,
    record.module,
    record.action,
    record.exchange,
    record.routingKey,
    record.priority,
    record.bytes,
    record.outcome,
    record.milliseconds,
  ];
}

/** Insert records into a table in PostgreSQL, created at the first record. */
export class PostgresAudit extends PostgresTable implements AuditSink {
  /** `address` is a connection string, or a pool of `pg`, which stays open. */
  constructor(address: string | PostgresPool, table = "kryonix_audit") {
    super(
      address,
      table,
      `at timestamptz NOT NULL, tenant text NOT NULL, application text NOT NULL, message_id text NOT NULL,
       module text NOT NULL, action text NOT NULL, exchange text NOT NULL, routing_key text NOT NULL,
       priority integer NOT NULL, bytes integer NOT NULL, outcome text NOT NULL,
       milliseconds double precision NOT NULL, PRIMARY KEY (message_id, at)`,
    );
  }

  async write(records: readonly AuditRecord[]): Promise<void> {
    const marks = records.map((_, row) => {
      return `(${COLUMNS.map((_, column) => `$${row * COLUMNS.length + column + 1}`).join(", ")})`;
    });
    // A batch is written again if the answer to its commit was lost.
    const statement = `INSERT INTO {table} (${COLUMNS.join(", ")}) VALUES ${marks.join(", ")} ON CONFLICT DO NOTHING`;
    await this.execute(statement, records.flatMap(valuesOf));
  }
}
