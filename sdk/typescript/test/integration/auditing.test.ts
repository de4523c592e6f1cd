import { readFileSync } from "node:fs";
import { Pool } from "pg";
import { afterAll, expect, test } from "vitest";
import { MemoryBroker, PostgresAudit } from "../../src/index.ts";

const { postgres } = JSON.parse(readFileSync(process.env.KRYONIX_TEST_WORLD!, "utf8")) as { postgres: string };
const pool = new Pool({ connectionString: postgres, max: 2 });
afterAll(() => pool.end());

test("each send adds a row, also after the server has closed the connection", async () => {
  const table = `audit_${Date.now()}`;
  const broker = new MemoryBroker({ modules: ["crm"] });
  const client = await broker.connect({ audit: new PostgresAudit(postgres, table), application: "joão" });
  const rows = async () => (await pool.query(`SELECT message_id, application, outcome, bytes FROM ${table}`)).rows;
  await client.crm.send("leads.create", {}, { messageId: "m-1" });
  await expect.poll(async () => (await rows().catch(() => [])).length).toBe(1);
  await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()",
    [`INSERT INTO ${table}%`],
  );
  await client
    .module("crm")
    .send("leads.creat", {}, { messageId: "m-2" })
    .catch(() => {});
  await client.close();
  expect(await rows()).toEqual([
    { message_id: "m-1", application: "joão", outcome: "confirmed", bytes: 2 },
    { message_id: "m-2", application: "joão", outcome: "UnknownRoute", bytes: 0 },
  ]);
  expect(client.auditDropped).toBe(0);
  await pool.query(`DROP TABLE ${table}`);
});

test("a batch that is written twice is there once, and the application's pool stays open", async () => {
  const table = `audit_twice_${Date.now()}`;
  const audit = new PostgresAudit(pool, table);
  const record = {
    ...{ at: new Date(), tenant: "acme", application: "shop", messageId: "m-1", module: "crm", action: "leads.create" },
    ...{ exchange: "", routingKey: "", priority: 5, bytes: 2, outcome: "confirmed", milliseconds: 0.5 },
  };
  await audit.write([record]);
  await audit.write([record]);
  await audit.close();
  expect((await pool.query(`SELECT count(*)::int AS count FROM ${table}`)).rows).toEqual([{ count: 1 }]);
  await pool.query(`DROP TABLE ${table}`);
});
