import { expect, test } from "vitest";
import type { Logger } from "../../src/log.ts";
import type { Outgoing } from "../../src/message.ts";
import { CATALOG } from "../../src/modules.ts";
import { Names } from "../../src/naming.ts";
import { address, type Decision, Rules, SafeRouter } from "../../src/routing.ts";

const rules = new Rules(CATALOG);
const names = new Names("acme");
const lead: Outgoing = { module: "crm", action: "leads.create", data: {} };
const said: string[] = [];
const log: Logger = { info: () => {}, warn: (text) => void said.push(text), error: () => {} };

function route(message: Outgoing): [string, string, number] {
  const decision = rules.decide(message);
  return [...address(names, message, decision), decision.priority];
}

test("the first matching rule chooses the exchange", () => {
  expect(route(lead)).toEqual(["cliente_acme", "crm.leads.create.medium", 5]);
  expect(route({ ...lead, priority: 8 })).toEqual(["cliente_acme.business_critical", "critical.crm.leads.create", 8]);
  expect(route({ ...lead, device: "mobile" })).toEqual(["cliente_acme.mobile_priority", "mobile.crm.leads.create", 5]);
  expect(route({ ...lead, expires: 30 })[2]).toBe(8);
  expect(route({ ...lead, expires: 30.001 })[2]).toBe(5);
  expect(route({ ...lead, module: "financeiro", action: "faturas.create", device: "mobile" })[0]).toBe("cliente_acme");
});

test("a lane is reached by the main exchange only", () => {
  const crm = { ...CATALOG.modules.crm!, priorityLanes: { "leads.create": ["high"] as const } };
  const laned = new Rules({ ...CATALOG, modules: { crm } });
  expect(laned.decide({ ...lead, priority: 9 })).toMatchObject({ exchange: "main", priority: 9 });
});

async function ask(decide: () => unknown, timeout = 1): Promise<Decision> {
  const router = new SafeRouter({ decide: decide as () => Decision }, rules, timeout, log);
  return await router.ask(lead, 1);
}

test("a router of one's own decides", async () => {
  const own = { exchange: "critical", priority: 9, mobileOptimized: false, reason: "angry" };
  expect(await ask(() => Promise.resolve(own))).toEqual(own);
});

test.each([
  [
    "throws",
    () => {
      throw new TypeError("no model");
    },
    "TypeError: no model",
  ],
  [
    "names another exchange",
    () => ({ exchange: "fast", priority: 5, mobileOptimized: false, reason: "" }),
    "not bound",
  ],
  [
    "gives an impossible priority",
    () => ({ exchange: "main", priority: 11, mobileOptimized: false, reason: "" }),
    "0 to 10",
  ],
  ["returns nothing", () => undefined, "the router failed"],
  ["never answers", () => new Promise(() => {}), "took longer than 0.01 s"],
])("the rules decide if a router %s", async (_, decide, problem) => {
  const decision = await ask(decide, 0.01);
  expect(decision).toMatchObject({ exchange: "main", priority: 5 });
  expect(decision.reason).toContain(problem);
  expect(said.at(-1)).toContain("the rules decide");
});
