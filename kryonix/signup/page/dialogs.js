// The dialogs that ask before something is done.

import { byId, element, keyOf } from "./dom.js";

// Asks, and returns whether the answer is yes. `confirm` is a text that has to be typed first.
export function question({ title, text, yes, danger = false, confirm = "" }) {
  const dialog = byId("question");
  const typed = byId("question-id");
  byId("question-heading").textContent = title;
  byId("question-text").replaceChildren(...text.filter(Boolean).map((line) => (line instanceof Node ? line : element("p", {}, line))));
  byId("question-yes").textContent = yes;
  byId("question-yes").className = danger ? "danger" : "";
  byId("question-confirm").hidden = !confirm;
  byId("question-confirm").querySelector("label").textContent = `Type ${confirm} to confirm`;
  typed.value = "";
  typed.oninput = () => { byId("question-yes").disabled = Boolean(confirm) && typed.value.trim() !== confirm; };
  typed.oninput();
  dialog.returnValue = "";
  const before = document.activeElement;
  const key = keyOf(before);
  dialog.showModal();
  (confirm ? typed : byId("question-no")).focus();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      // The browser goes back to what had the keyboard's focus, and not to what replaced it meanwhile.
      if (key && !before.isConnected) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
      answer(dialog.returnValue === "yes");
    }, { once: true });
  });
}

byId("question-no").addEventListener("click", () => byId("question").close(""));

// The table of queues whose messages an operation would delete.
export function queues(counts) {
  const rows = Object.entries(counts).map(([queue, count]) =>
    element("tr", {}, element("th", { scope: "row" }, queue), element("td", { class: "number" }, count.toLocaleString())));
  const head = element("tr", {}, element("th", { scope: "col" }, "Queue"), element("th", { scope: "col", class: "number" }, "Messages"));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Queues with messages" },
    element("table", { class: "queues" }, element("thead", {}, head), element("tbody", {}, rows)));
}
