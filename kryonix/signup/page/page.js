"use strict";

// The operators' page: what the API says, shown; what is filled in, sent. Text from the service is only ever set as
// text, so nothing in it can act as markup.

const STORED = "kryonix-api-key";
const PAGE = 100;
const LOOK_AGAIN_MS = 1500;
const NEWS_MS = 5000;
const byId = (id) => document.getElementById(id);
let key = sessionStorage.getItem(STORED) || "";
let next = null;
let shown = "";
const watched = new Set();

async function call(method, path, body, headers = {}) {
  const sent = { Authorization: `Bearer ${key}`, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The service can't be reached. Check that it is running, then try again.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
    throw new Error([problem.detail, ...(problem.errors || [])].filter((line, at, all) => all.indexOf(line) === at).join("\n"));
  }
  return response;
}

const ask = async (...request) => (await call(...request)).json();

function fail(error) {
  byId("failure").textContent = error.message;
  byId("failure").hidden = false;
}

function clearFailure() {
  byId("failure").hidden = true;
  byId("failure").textContent = "";
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

// --- Opening

async function open() {
  clearFailure();
  try {
    const catalog = await ask("GET", "/v1/catalog");
    showChoices(catalog);
    await showTenants();
  } catch (error) {
    byId("content").hidden = true;
    fail(error);
    return;
  }
  sessionStorage.setItem(STORED, key);
  byId("content").hidden = false;
  byId("forget").hidden = false;
  byId("key").value = "";
  byId("tenants-heading").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  open();
});

byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(STORED);
  location.reload();
});

function showChoices(catalog) {
  byId("new-plan").replaceChildren(
    ...catalog.plans.map((plan) => element("option", `${plan.name} (${plan.max_queues} queues)`, { value: plan.name })),
  );
  byId("new-modules").replaceChildren(
    ...catalog.modules.map((module) => {
      const label = element("label");
      label.append(element("input", undefined, { type: "checkbox", name: "modules", value: module.name }));
      label.append(` ${module.name} (${module.actions} actions)`);
      return label;
    }),
  );
}

// --- Tenants

async function showTenants(after = "") {
  const page = await ask("GET", `/v1/tenants?limit=${PAGE}&after=${encodeURIComponent(after)}`);
  shown = after ? "" : JSON.stringify(page);
  const rows = page.tenants.filter((tenant) => tenant.status !== "removed" || tenant.operation).map(tenantRow);
  if (after) byId("tenants").append(...rows);
  else replaceRows(rows);
  next = page.next;
  byId("more").hidden = next === null;
  const count = byId("tenants").children.length;
  byId("count").textContent = count ? `${count} tenant(s)${next ? ", and more" : ""}` : "No tenants yet. Add the first below.";
  for (const tenant of page.tenants) if (tenant.operation) watch(tenant.operation);
}

// What is open stays open, and the keyboard's focus stays where it was.
function replaceRows(rows) {
  const tenants = byId("tenants");
  const open = new Set([...tenants.querySelectorAll("details[open]")].map((why) => why.closest("tr").dataset.tenant));
  const held = tenants.contains(document.activeElement) ? document.activeElement : null;
  const of = held?.closest("tr").dataset.tenant;
  tenants.replaceChildren(...rows);
  for (const row of rows) {
    row.querySelector("details")?.toggleAttribute("open", open.has(row.dataset.tenant));
    if (row.dataset.tenant !== of) continue;
    [...row.querySelectorAll("button, summary")].find((each) => each.textContent === held.textContent)?.focus();
  }
}

byId("more").addEventListener("click", () => showTenants(next).catch(fail));

// What others do is seen too, as long as there is one page.
async function showNews() {
  if (document.hidden || byId("content").hidden || !shown) return;
  const before = shown;
  const page = await ask("GET", `/v1/tenants?limit=${PAGE}&after=`);
  if (shown === before && JSON.stringify(page) !== before) await showTenants();
}

setInterval(() => showNews().catch(() => {}), NEWS_MS);

function tenantRow(tenant) {
  const row = element("tr", undefined, { role: "row", "data-tenant": tenant.id });
  row.append(element("th", tenant.id, { role: "rowheader", scope: "row" }), cell("Plan", tenant.plan));
  row.append(cell("Modules", tenant.modules.join(", ")), queueCell(tenant), statusCell(tenant));
  row.append(cell("Cell", tenant.cell), actionCell(tenant));
  return row;
}

// On a narrow screen rows become blocks, and each cell names its column. Roles keep it a table for screen readers.
const cell = (column, text) => element("td", text, { role: "cell", "data-column": column });

function queueCell(tenant) {
  const made = cell("Queues");
  if (tenant.queues === null) {
    made.append("not in the catalog");
    return made;
  }
  const { used, allowed } = tenant.queues;
  made.append(element("meter", undefined, { class: "bar", min: 0, max: allowed, value: used, "aria-hidden": "true" }));
  made.append(`${used} of ${allowed}`);
  return made;
}

function statusCell(tenant) {
  const removal = tenant.remove_after && `removed after ${new Date(tenant.remove_after).toLocaleString()}`;
  const unfinished = !tenant.converged && !tenant.operation && "not up to date";
  const made = cell("Status", [tenant.status, tenant.operation && "operation in progress", removal, unfinished].filter(Boolean).join("; "));
  if (tenant.problem && !tenant.operation) {
    const why = element("details", undefined, { class: "failed" });
    why.append(element("summary", "the last operation failed"), tenant.problem.detail);
    made.append(why);
  }
  return made;
}

function actionCell(tenant) {
  const made = cell("Actions");
  const offered = { active: ["suspend", "rotate"], suspended: ["resume", "rotate"], offboarding: ["resume"] };
  for (const action of tenant.operation ? [] : offered[tenant.status] || []) {
    const button = element("button", action, { type: "button", class: "quiet", "aria-label": `${action} ${tenant.id}` });
    button.addEventListener("click", () => act(`/v1/tenants/${encodeURIComponent(tenant.id)}/${action}`));
    made.append(button);
  }
  return made;
}

async function act(path, body) {
  clearFailure();
  try {
    const taken = await ask("POST", path, body, { "Idempotency-Key": crypto.randomUUID() });
    watch(taken.id, taken.credentials_key);
    await showTenants();
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
}

// --- A new tenant

const wanted = () => ({
  id: byId("new-id").value,
  plan: byId("new-plan").value,
  modules: [...document.querySelectorAll("input[name=modules]:checked")].map((box) => box.value),
});

let asked = 0;
async function showCapacity() {
  const turn = ++asked;
  const { id, plan, modules } = wanted();
  const named = byId("new-id").checkValidity();
  let text = "";
  let fits = false;
  if (modules.length) {
    try {
      // The id does not change what is needed: the capacity shows before there is one.
      const need = await ask("POST", "/v1/plan", { id: named ? id : "preview", plan, modules });
      const each = Object.entries(need.queues_by_module).map(([module, queues]) => `${module} ${queues}`).join(", ");
      text = `${need.queues.used} of ${need.queues.allowed} queues (${each}), `
        + `${need.exchanges.used} of ${need.exchanges.allowed} exchanges, `
        + `up to ${need.limits.max_connections} connections`;
      fits = true;
    } catch (error) {
      text = error.message;
    }
  }
  if (turn !== asked) return;
  byId("capacity").textContent = text || "Choose modules to see their share of the plan.";
  byId("capacity").classList.toggle("bad", Boolean(text) && !fits);
  byId("add").disabled = !(fits && named);
}

let waiting;
byId("new-form").addEventListener("input", () => {
  clearTimeout(waiting);
  byId("add").disabled = true;
  waiting = setTimeout(showCapacity, 150);
});

byId("new-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("add").disabled = true;
  if (await act("/v1/tenants", wanted())) byId("new-form").reset();
  showCapacity();
});

// --- Operations, live

function watch(id, credentialsKey) {
  if (watched.has(id)) return;
  watched.add(id);
  const item = element("li", undefined, { "data-operation": id });
  const title = element("div", "", { role: "status" });
  const bar = element("progress", undefined, { "aria-label": "broker objects finished" });
  const detail = element("div", "", { class: "hint" });
  item.append(title, bar, detail);
  byId("operations").prepend(item);
  byId("operations-section").hidden = false;
  follow(id, (operation) => showOperation(operation, title, bar, detail)).then((operation) => ended(operation, credentialsKey));
}

function showOperation(operation, title, bar, detail) {
  const { done, total, doing } = operation.progress;
  title.textContent = `${operation.kind} ${operation.tenant}: ${operation.status}`;
  title.className = operation.status;
  bar.max = total || 1;
  if (operation.status === "running" && !total) bar.removeAttribute("value");
  else bar.value = done;
  bar.setAttribute("aria-label", `${operation.kind} ${operation.tenant}, broker objects finished`);
  const again = operation.status === "queued" && operation.attempts ? `attempt ${operation.attempts} failed, retrying: ` : "";
  detail.textContent = operation.problem && operation.status !== "succeeded"
    ? again + operation.problem.detail : total ? `${done} of ${total} broker objects ${doing && `(${doing})`}` : doing;
  detail.className = operation.status === "failed" ? "failed" : "hint";
}

// EventSource can't send a key, so the stream is read by hand; where it breaks off, it is begun again.
async function follow(id, show) {
  for (;;) {
    try {
      const response = await call("GET", `/v1/operations/${id}/events`);
      const operation = await readEvents(response.body, show);
      if (operation && operation.ended_at) return operation;
    } catch (error) {
      fail(error);
    }
    await new Promise((later) => setTimeout(later, LOOK_AGAIN_MS));
  }
}

async function readEvents(stream, show) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return last;
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (!data) continue;
      const told = JSON.parse(data.slice(6));
      if (event.split("\n").includes("event: problem")) throw new Error(told.detail);
      last = told;
      show(last);
    }
  }
}

async function ended(operation, credentialsKey) {
  try {
    await showTenants();
    if (operation.status === "succeeded" && credentialsKey) {
      const path = `/v1/operations/${operation.id}/credentials`;
      showCredentials(operation.tenant, await ask("POST", path, { credentials_key: credentialsKey }));
    }
  } catch (error) {
    fail(error);
  }
}

function showCredentials(tenant, credentials) {
  byId("credentials-heading").textContent = `Credentials of ${tenant}`;
  byId("credentials-list").replaceChildren(
    ...Object.entries(credentials).flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  byId("credentials").showModal();
}

byId("credentials").addEventListener("close", () => byId("credentials-list").replaceChildren());

byId("capacity").textContent = "Choose modules to see their share of the plan.";
if (key) open();
