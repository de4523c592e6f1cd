import { expect, test } from "vitest";
import { CATALOG } from "../../src/modules.ts";
import { Names } from "../../src/naming.ts";
import { readStats } from "../../src/stats.ts";

const kindOf = (name: string) => readStats({ name }, new Names("acme"), CATALOG);

test.each([
  ["cliente_acme.crm.leads.create", "action", "leads.create"],
  ["cliente_acme.crm.leads.create.high", "lane", "leads.create"],
  ["cliente_acme.crm.leads.create.high.retry.2", "retry", "leads.create"],
  ["cliente_acme.crm.leads.create.dlq", "dead-letter", "leads.create"],
  ["cliente_acme.unrouted", "unrouted", undefined],
  ["cliente_acme.crm.leads.created", "other", undefined],
])("%s is a queue of kind %s", (name, kind, action) => {
  expect(kindOf(name)).toMatchObject({ kind, action });
});

test("a new queue without figures counts as empty", () => {
  expect(kindOf("cliente_acme.unrouted")).toMatchObject({ depth: 0, consumers: 0, ackRate: 0 });
});

test("figures are those of the management API", () => {
  const figures = {
    name: "cliente_acme.crm.leads.create",
    messages: 3,
    messages_ready: 2,
    messages_unacknowledged: 1,
    consumers: 4,
    message_stats: { publish_details: { rate: 0.5 }, ack_details: { rate: 1.5 } },
  };
  expect(readStats(figures, new Names("acme"), CATALOG)).toMatchObject({
    depth: 3,
    ready: 2,
    unacked: 1,
    consumers: 4,
    publishRate: 0.5,
    deliverRate: 0,
    ackRate: 1.5,
  });
});
