// The form that orders a new tenant, or another plan and other modules for one.

import { ask, request } from "./api.js";
import { button, byId, element, meter, plural } from "./dom.js";

const ID = /^[a-z][a-z0-9-]{2,39}$/;
const PAUSE_MS = 150;
let catalog = { plans: [], modules: [] };
let changed = null; // the tenant to change; null for a new one
let turn = 0;
let waiting;

export async function readCatalog() {
  catalog = await ask("GET", "/v1/catalog");
}

const boxes = () => [...document.querySelectorAll("#order-modules input")];
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.value);

export function openOrder(tenant = null) {
  changed = tenant;
  byId("order-heading").textContent = tenant ? `Change ${tenant.id}` : "Add a tenant";
  byId("order-about").textContent = tenant
    ? `Open connections of ${tenant.id} stay open. Consumers of a removed module are stopped; a lower limit applies to new connections.`
    : "It gets a virtual host of its own, and credentials that are shown to you once.";
  byId("order-id-field").hidden = Boolean(tenant);
  byId("order-yes").textContent = tenant ? `Change ${tenant.id}` : "Add tenant";
  byId("order-id").value = "";
  byId("order-id").removeAttribute("aria-invalid");
  byId("order-failure").hidden = true;
  byId("order-plan").replaceChildren(...catalog.plans.map(({ name, max_queues: most }) =>
    element("option", { value: name, selected: name === tenant?.plan }, `${name} (${most} queues)`)));
  byId("order-modules").replaceChildren(...catalog.modules.map(({ name, actions }) =>
    element("label", {}, element("input", { type: "checkbox", value: name, checked: tenant?.modules.includes(name) }),
      ` ${name} `, element("span", { class: "hint" }, plural(actions, "action")))));
  check();
  byId("order").showModal();
  (tenant ? byId("order-plan") : byId("order-id")).focus();
}

// What stands in the way of sending the form; empty if nothing does.
function missing() {
  const id = byId("order-id").value;
  if (!changed && !id) return "Enter an ID.";
  if (!changed && !ID.test(id)) return `'${id}' isn't a valid ID: see the rule below the field.`;
  if (!chosen().length) return "Choose at least one module.";
  return changed && !added().length && !removed().length && byId("order-plan").value === changed.plan ? "Nothing is changed yet." : "";
}

const added = () => chosen().filter((module) => !changed.modules.includes(module));
const removed = () => changed.modules.filter((module) => !chosen().includes(module));

async function check() {
  const mine = ++turn;
  const reason = missing();
  const id = changed?.id ?? byId("order-id").value;
  const plan = byId("order-plan").value;
  const modules = chosen();
  let problem = null;
  let need = null;
  if (modules.length) {
    try {
      need = await ask("POST", "/v1/plan", { plan, modules, ...(ID.test(id) && { id }) });
    } catch (error) {
      problem = error;
    }
  }
  if (mine !== turn) return;
  showCapacity(need, problem);
  showEffect();
  const unfit = problem?.kind === "does-not-fit" ? `The modules don't fit the plan ${plan}.` : problem && "See the message above.";
  byId("order-why").textContent = reason || unfit || "";
  byId("order-yes").disabled = Boolean(reason || problem);
}

function showCapacity(need, problem) {
  const shown = byId("capacity");
  shown.classList.toggle("bad", Boolean(problem));
  if (problem) {
    const { plan } = problem.problem ?? {};
    const remedy = plan && button(`Use the plan ${plan}`, () => {
      byId("order-plan").value = plan;
      byId("order-plan").focus();
      check();
    });
    shown.replaceChildren(element("p", { class: "lines" }, problem.message.charAt(0).toUpperCase() + problem.message.slice(1)), remedy || "");
  } else if (need) {
    const each = Object.entries(need.queues_by_module).map(([module, queues]) => `${module} ${queues}`).join(", ");
    shown.replaceChildren(
      element("div", { class: "meters" }, meter("queues", need.queues), meter("exchanges", need.exchanges),
        element("span", {}, `up to ${plural(need.limits.max_connections, "connection")}`)),
      element("p", { class: "hint" }, `Queues: ${each}, and those shared by all modules.`));
  } else shown.textContent = "Choose modules to see their share of the plan.";
}

function showEffect() {
  const lines = [];
  if (changed && added().length) lines.push(`Adds ${added().join(", ")}.`);
  if (changed && removed().length) {
    lines.push(`Removes ${removed().join(", ")} with all queues. If these hold messages, nothing is changed and you are asked first.`);
  }
  byId("order-effect").replaceChildren(...lines.map((line) => element("p", {}, line)));
}

byId("order-form").addEventListener("input", () => {
  clearTimeout(waiting);
  turn += 1;
  byId("order-yes").disabled = true;
  const id = byId("order-id").value;
  if (id && !ID.test(id)) byId("order-id").setAttribute("aria-invalid", "true");
  else byId("order-id").removeAttribute("aria-invalid");
  waiting = setTimeout(check, PAUSE_MS);
});

byId("order-no").addEventListener("click", () => byId("order").close());

byId("order-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("order-yes").disabled = true;
  const wanted = { plan: byId("order-plan").value, modules: chosen() };
  try {
    const operation = changed
      ? await request("PATCH", `/v1/tenants/${encodeURIComponent(changed.id)}`, wanted)
      : await request("POST", "/v1/tenants", { id: byId("order-id").value, ...wanted });
    byId("order").close();
    document.dispatchEvent(new CustomEvent("accepted", { detail: operation }));
  } catch (error) {
    byId("order-failure").textContent = error.message;
    byId("order-failure").hidden = false;
    byId("order-yes").disabled = false;
  }
});
