// The list of tenants: searched, filtered and sorted by the service, a page at a time.

import { offered, perform, removal } from "./actions.js";
import { alertCard, alertsOfPlatform, allAlerts, forgetAlerts, mark, monitored, readAlerts } from "./alerts.js";
import { ask } from "./api.js";
import { badge, button, byId, element, meter, plural, replace } from "./dom.js";
import { watch } from "./operations.js";

const SIZE = 25;
const TYPING_MS = 250;
const FEW = 3; // modules named in a row; the tenant's own view names all
const COLUMNS = [["Tenant", "id"], ["Plan", "plan"], ["Modules"], ["Queues"], ["Status", "status"], ["Managed by"], ["Actions"]];
let places = [""]; // where each page up to this one begins
let next = null;
let shown = "";
let turn = 0;
let waiting;

export const showList = async () => {
  const mine = ++turn;
  const [page] = await Promise.all([ask("GET", `/v1/tenants?${query()}`), readAlerts()]);
  if (mine !== turn) return;
  if (!page.tenants.length && places.length > 1) {
    places.pop();
    await showList();
    return;
  }
  for (const tenant of page.tenants) if (tenant.operation) watch({ id: tenant.operation });
  const text = JSON.stringify([page, query(), allAlerts(), monitored()]);
  if (text === shown) return;
  shown = text;
  next = page.next;
  byId("alerts-field").hidden = !monitored();
  byId("platform-alerts").hidden = !alertsOfPlatform().length;
  replace(byId("platform-alerts"), ...alertsOfPlatform().map(alertCard));
  showColumns();
  replace(byId("tenants"), ...(page.tenants.length ? page.tenants.map(row) : [empty()]));
  showPager(page);
};

export function resetList() {
  [places, shown, turn] = [[""], "", turn + 1];
  byId("tenants").replaceChildren();
  byId("platform-alerts").replaceChildren();
  byId("filter").reset();
  forgetAlerts();
}

function query() {
  const wanted = new URLSearchParams({
    limit: SIZE, sort: byId("sort").value, after: places.at(-1), search: byId("search").value.trim().toLowerCase(),
  });
  for (const field of ["status", "alerts"]) if (byId(field).value) wanted.set(field, byId(field).value);
  return wanted.toString();
}

function showColumns() {
  const by = byId("sort").value;
  replace(byId("columns"), ...COLUMNS.map(([label, key]) => {
    const sorted = key && by.replace("-", "") === key && (by.startsWith("-") ? "descending" : "ascending");
    const other = sorted === "ascending" ? `-${key}` : key;
    const content = key ? button(label, () => sortBy(other), { class: "sort", "data-key": key }) : label;
    return element("th", { role: "columnheader", scope: "col", "aria-sort": sorted || (key ? "none" : null) }, content);
  }));
}

function sortBy(order) {
  byId("sort").value = order;
  restart();
}

function empty() {
  const filtered = ["search", "status", "alerts"].some((field) => byId(field).value);
  const text = filtered ? "No tenant matches. Change the search or the filters." : "No tenants yet. Add the first one.";
  return element("tr", { role: "row" }, element("td", { role: "cell", colspan: COLUMNS.length, class: "empty" }, text));
}

// On a narrow screen rows become blocks, and each cell names its column. Roles keep it a table for screen readers.
const cell = (column, ...content) => element("td", { role: "cell", "data-column": column }, ...content);

const few = (names) => names.length <= FEW
  ? names.join(", ")
  : `${names.slice(0, FEW - 1).join(", ")} and ${names.length - FEW + 1} more`;

function row(tenant) {
  return element("tr", { role: "row", "data-tenant": tenant.id },
    element("th", { role: "rowheader", scope: "row" },
      element("a", { href: `#/tenants/${tenant.id}`, "data-key": `${tenant.id} open` }, tenant.id)),
    cell("Plan", tenant.plan),
    cell("Modules", few(tenant.modules)),
    cell("Queues", meter("", tenant.queues)),
    cell("Status", status(tenant)),
    cell("Managed by", tenant.managed_by),
    cell("Actions", tenant.managed_by !== "own stack" && element("span", { class: "hint" }, "read only"), ...offered(tenant).filter(([, action]) => action.quick).map(([name, action]) =>
      button(action.short || action.label, () => perform(name, tenant),
        { class: "quiet small", "data-key": `${tenant.id} ${name}`, "aria-label": `${action.short || action.label} ${tenant.id}` }))));
}

function status(tenant) {
  const made = [element("span", { class: "badges" }, badge(tenant.status), mark(tenant.id))];
  if (tenant.operation) made.push(element("span", { class: "hint" }, "operation in progress"));
  else if (tenant.problem) {
    const why = { class: "bad", href: `#/tenants/${tenant.id}`, "data-key": `${tenant.id} why` };
    made.push(element("a", why, "last operation failed"));
  }
  if (!tenant.operation && !tenant.problem && !tenant.converged) made.push(element("span", { class: "hint" }, "not up to date"));
  if (removal(tenant)) made.push(element("span", { class: "hint" }, ...removal(tenant)));
  return element("div", { class: "stacked" }, made);
}

function showPager({ tenants, total }) {
  const first = (places.length - 1) * SIZE + 1;
  const part = next || places.length > 1 ? `${first}–${first + tenants.length - 1} of ` : "";
  byId("count").textContent = part + plural(total, "tenant");
  byId("previous").hidden = byId("next").hidden = !next && places.length === 1;
  byId("previous").disabled = places.length === 1;
  byId("next").disabled = !next;
}

const again = () => showList().catch((error) => document.dispatchEvent(new CustomEvent("failed", { detail: error })));

function restart() {
  places = [""];
  again();
}

byId("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(restart, TYPING_MS);
});
byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("status").addEventListener("change", restart);
byId("alerts").addEventListener("change", restart);
byId("sort").addEventListener("change", restart);
byId("next").addEventListener("click", () => {
  places.push(next);
  again().then(() => byId("list-heading").focus());
});
byId("previous").addEventListener("click", () => {
  places.pop();
  again().then(() => byId("list-heading").focus());
});
