// Operations in progress and just finished, live.

import { announce, follow, may } from "./api.js";
import { queues } from "./dialogs.js";
import { badge, button, byId, capital, element } from "./dom.js";

const watched = new Map();

export const titleOf = (operation) => (operation.kind === "settle" ? "Scheduled work" : capital(operation.kind));

// Why an operation failed, and what can be done about it here.
export function failureOf(operation) {
  const { problem } = operation;
  if (problem.queues && Object.keys(problem.queues).length) {
    const wanted = may(operation.kind === "remove" ? "admin" : "write") && ["change", "remove"].includes(operation.kind);
    return element("div", { class: "failure" },
      element("p", {}, "Nothing was changed: these queues still hold messages. Consume or move the messages first, or accept "
        + "their loss."),
      queues(problem.queues),
      wanted && button("Delete these messages…", () =>
        document.dispatchEvent(new CustomEvent("accept-loss", { detail: operation })), { class: "danger quiet" }));
  }
  return element("div", { class: "failure" }, element("p", { class: "lines" }, problem.detail));
}

// Shows an operation, once, and returns how it ended: undefined if that can't be known any more. Whoever asks again, also
// after its end, is told the same.
export function watch({ id, tenant, kind }) {
  if (watched.has(id)) return watched.get(id).end;
  const item = element("li", { class: "card operation", "data-operation": id });
  const title = element("div", { role: "status", class: "title" });
  const bar = element("progress");
  const detail = element("div", { class: "hint" });
  item.append(title, bar, detail);
  byId("operations").prepend(item);
  byId("operations-section").hidden = false;
  const parts = { item, title, bar, detail };
  if (kind) show({ kind, tenant, status: "queued", attempts: 0, progress: { done: 0, total: 0, doing: "" } }, parts);
  const end = follow(id, (operation) => show(operation, parts)).catch(() => forget(id));
  watched.set(id, { item, end });
  end.then(() => announce("changed"));
  return end;
}

function show(operation, { item, title, bar, detail }) {
  const { done, total, doing } = operation.progress;
  const name = `${titleOf(operation)} ${operation.tenant}`;
  const text = `${name}: ${operation.status}`;
  if (title.dataset.text !== text) {
    title.dataset.text = text;
    title.replaceChildren(element("a", { href: `#/tenants/${operation.tenant}` }, name), " ", badge(operation.status));
  }
  bar.max = total || 1;
  if (operation.status === "running" && !total) bar.removeAttribute("value");
  else bar.value = operation.status === "succeeded" ? bar.max : done;
  bar.setAttribute("aria-label", `${name}: broker objects finished`);
  bar.hidden = Boolean(operation.ended_at);
  const again = operation.status === "queued" && operation.attempts ? `attempt ${operation.attempts} failed, retrying: ` : "";
  if (operation.status === "failed") detail.replaceChildren(failureOf(operation));
  else if (operation.problem && operation.status !== "succeeded") detail.textContent = again + operation.problem.detail;
  else detail.textContent = total ? `${done} of ${total} broker objects${doing ? ` (${doing})` : ""}` : doing;
  if (operation.ended_at && !item.classList.contains("ended")) {
    item.classList.add("ended");
    item.append(button("Clear", () => forget(operation.id), { "aria-label": `Clear ${name}` }));
    byId("clear-operations").hidden = false;
  }
}

// The operation stays known: it is not shown again.
function forget(id) {
  const item = watched.get(id)?.item;
  const held = item?.contains(document.activeElement);
  item?.remove();
  const section = byId("operations-section");
  section.hidden = byId("operations").children.length === 0;
  byId("clear-operations").hidden = byId("operations").querySelector(".ended") === null;
  if (held) (section.hidden ? byId("main") : byId("operations-heading")).focus();
}

byId("clear-operations").addEventListener("click", () => {
  for (const [id, { item }] of watched) if (item.classList.contains("ended")) forget(id);
  (byId("operations-section").hidden ? byId("main") : byId("operations-heading")).focus();
});

export function forgetOperations() {
  watched.clear();
  byId("operations").replaceChildren();
  byId("operations-section").hidden = true;
}
