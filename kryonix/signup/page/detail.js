// One tenant: its plan, limits and state, what can be done to it, and what was done.

import { offered, perform, removal } from "./actions.js";
import { ask } from "./api.js";
import { badge, button, byId, element, meter, moment, plural, replace } from "./dom.js";
import { health, leaveHealth, showHealth } from "./health.js";
import { failureOf, titleOf, watch } from "./operations.js";

let shown = "";
let turn = 0;

export async function showDetail(id) {
  const mine = ++turn;
  const path = `/v1/tenants/${encodeURIComponent(id)}`;
  const [tenant, { operations }] = await Promise.all([ask("GET", path), ask("GET", `${path}/operations?limit=20`)]);
  if (mine !== turn) return;
  if (tenant.operation) watch({ id: tenant.operation });
  const text = JSON.stringify([tenant, operations]);
  if (text === shown) return;
  shown = text;
  const last = operations.find((operation) => operation.ended_at);
  const measured = tenant.status !== "removed";
  replace(byId("detail"),
    back(),
    element("div", { class: "heading" },
      element("h1", { id: "detail-heading", tabindex: "-1", "data-key": "heading" }, tenant.id), badge(tenant.status)),
    last?.status === "failed" && !tenant.operation ? element("div", { class: "note bad", role: "group", "aria-label": "Last operation" },
      element("p", {}, element("strong", {}, `${titleOf(last)} failed`), " ", moment(last.ended_at)), failureOf(last)) : null,
    jumps([measured && "Health", "Plan and state", offered(tenant).length && "Actions", operations.length && "History"]),
    measured && health, tenant.managed_by === "own stack" ? null : declared(tenant), ...facts(tenant), ...actions(tenant), ...history(operations));
  if (measured) showHealth(tenant.id);
  else leaveHealth();
}

// The way to a part of this long view, also by keyboard.
const jumps = (names) => element("nav", { "aria-label": "In this view", class: "jumps" }, names.filter(Boolean).map((name) =>
  button(name, () => {
    const heading = [...byId("detail").querySelectorAll("h2")].find((each) => each.textContent === name);
    heading.scrollIntoView({ block: "start" });
    heading.focus({ preventScroll: true });
  }, { class: "quiet small", "data-key": `jump ${name}` })));

const heading = (name, attributes = {}) => element("h2", { tabindex: "-1", ...attributes }, name);

const back = () => element("p", {}, element("a", { href: "#/", "data-key": "back" }, "← All tenants"));

export function resetDetail(failed = false) {
  [shown, turn] = ["", turn + 1];
  leaveHealth();
  byId("detail").replaceChildren(...(failed ? [back()] : []));
}

function declared(tenant) {
  const code = (text) => element("code", {}, text);
  return element("div", { class: "note" },
    element("p", {}, element("strong", {}, "A config file manages this tenant, so it can't be changed here.")),
    element("ul", {},
      element("li", {}, "To see which file: ", code("kryonix tenant list"), ". It is tenants.yaml, or the tenant's own ",
        code(`Pulumi.tenant-${tenant.id}.yaml`), "."),
      element("li", {}, "To change it: edit its entry there (to suspend it, ", code("status: suspended"), "), then run ",
        code("kryonix up"), "."),
      element("li", {}, "To manage it here: ", code(`kryonix tenant adopt ${tenant.id}`), " moves it from tenants.yaml to a stack of "
        + "its own. Applications stay connected."),
      element("li", {}, "To get its credentials: ", code(`kryonix tenant credentials ${tenant.id}`), ".")));
}

function facts(tenant) {
  const fact = (label, ...content) => element("div", {}, element("dt", {}, label), element("dd", {}, ...content));
  const state = tenant.operation ? "operation in progress" : tenant.converged ? "applied" : "not applied yet: see Converge";
  return [heading("Plan and state"), element("dl", { class: "card facts" },
    fact("Plan", tenant.plan),
    fact("Modules", tenant.modules.join(", ")),
    fact("Queues", meter("", tenant.queues)),
    fact("Exchanges", meter("", tenant.exchanges)),
    fact("Virtual host", element("code", {}, tenant.vhost)),
    fact("User", element("code", {}, tenant.username)),
    fact("Managed by", tenant.managed_by),
    tenant.cell && fact("Cell", tenant.cell),
    tenant.status === "removed" ? null : fact("Desired state", state),
    tenant.updated_at && fact("Last change", moment(tenant.updated_at)),
    tenant.retiring_until && fact("Old credentials", "work until ", moment(tenant.retiring_until)),
    removal(tenant) && fact("Removal", ...removal(tenant)),
    tenant.status === "removed" ? null : fact("Single queues", element("code", {}, `kryonix tenant show ${tenant.id}`)))];
}

function actions(tenant) {
  const found = offered(tenant);
  if (!found.length) return [];
  return [heading("Actions"), element("ul", { class: "card plain actions" }, found.map(([name, action]) =>
    element("li", {},
      element("div", {}, element("strong", {}, action.label), element("p", { class: "hint" }, action.about)),
      button(`${action.short || action.label}${action.text || action.run ? "…" : ""}`, () => perform(name, tenant),
        { class: action.danger ? "danger quiet" : "quiet", "data-key": name, "aria-label": `${action.label}: ${tenant.id}` }))))];
}

function history(operations) {
  if (!operations.length) return [];
  const head = ["When", "Operation", "Requested by", "Result"].map((label) => element("th", { role: "columnheader", scope: "col" }, label));
  const cell = (column, ...content) => element("td", { role: "cell", "data-column": column }, ...content);
  const rows = operations.map((operation) => element("tr", { role: "row" },
    cell("When", moment(operation.created_at)),
    cell("Operation", element("div", { class: "stacked" }, titleOf(operation), element("span", { class: "hint" }, requested(operation)))),
    cell("Requested by", operation.requested_by ?? "the service"),
    cell("Result", result(operation))));
  return [heading("History", { id: "history-heading" }),
    element("div", { class: "scroll card flush", role: "group", "aria-labelledby": "history-heading", tabindex: "0" },
      element("table", { role: "table", "aria-labelledby": "history-heading" },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, head)), element("tbody", { role: "rowgroup" }, rows)))];
}

function requested({ request }) {
  const parts = [request.plan && `plan ${request.plan}`, request.modules?.join(", "),
    request.allow_delete?.length && `loss of ${plural(request.allow_delete.length, "queue")} accepted`,
    request.accept_loss && "loss of messages accepted"];
  return parts.filter(Boolean).join("; ");
}

function result(operation) {
  const seconds = operation.ended_at && (new Date(operation.ended_at) - new Date(operation.created_at)) / 1000;
  const after = operation.ended_at && element("span", { class: "hint" }, `after ${seconds.toFixed(1)} s`);
  const made = [element("span", {}, badge(operation.status), " ", after)];
  if (operation.status === "failed" && operation.problem) {
    made.push(element("details", { "data-key": operation.id }, element("summary", {}, operation.problem.title || "Why"),
      element("p", { class: "lines" }, operation.problem.detail)));
  }
  const changes = Object.entries(operation.result?.changes ?? {}).filter(([kind]) => !["same", "read"].includes(kind));
  if (operation.result?.changes) {
    made.push(element("span", { class: "hint" }, changes.map(([kind, count]) => `${count} ${kind}`).join(", ") || "nothing to repair"));
  }
  const deleted = operation.result?.messages_deleted;
  if (deleted) made.push(element("span", { class: "hint" }, `${plural(deleted, "message")} deleted`));
  return element("div", { class: "stacked" }, made);
}
