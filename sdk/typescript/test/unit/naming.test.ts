import { expect, test } from "vitest";
import { Names, priorityName, tenantOfVhost } from "../../src/naming.ts";

const names = new Names("acme");

test("a tenant's names begin with its exchange", () => {
  expect(names.queue("crm", "leads.create")).toBe("cliente_acme.crm.leads.create");
  expect(names.lane("crm", "leads.create", "high")).toBe("cliente_acme.crm.leads.create.high");
  expect(names.deadLetterQueue("crm", "leads.create")).toBe("cliente_acme.crm.leads.create.dlq");
  expect(names.retryKey(names.queue("crm", "leads.create"), 2)).toBe("crm.leads.create.retry.2");
  expect(names.user).toBe("kryonix_acme");
  expect(names.statsUserOf(2)).toBe("kryonix_acme.2.stats");
});

test("only a module's objects have a module", () => {
  expect(names.moduleOf("cliente_acme.crm.leads.create")).toBe("crm");
  expect(names.moduleOf("cliente_acme.unrouted")).toBeUndefined();
  expect(names.moduleOf("cliente_other.crm.leads.create")).toBeUndefined();
});

test("only a tenant's vhost has a tenant", () => {
  expect(tenantOfVhost("/cliente_acme")).toBe("acme");
  for (const vhost of ["/", "/cliente_", "/cliente_Acme", "cliente_acme", "/cliente_acme\n"]) {
    expect(tenantOfVhost(vhost)).toBeUndefined();
  }
});

test("a priority has one of three names", () => {
  expect([0, 4, 5, 7, 8, 10].map(priorityName)).toEqual(["low", "low", "medium", "medium", "high", "high"]);
});
