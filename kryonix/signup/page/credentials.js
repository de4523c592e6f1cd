// Credentials that the signed-in operator has asked for, until they are saved.
// The key that opens them outlives a reload in this tab's sessionStorage; without the API key it opens nothing, and after
// they were shown it is worthless. The credentials themselves are only ever in the page's memory.

import { ask } from "./api.js";
import { question } from "./dialogs.js";
import { button, byId, element } from "./dom.js";
import { watch } from "./operations.js";

const STORED = "kryonix-credentials";
const NAMES = {
  amqp_uri: "AMQP URI", username: "User", password: "Password", vhost: "Virtual host",
  client_certificate: "Certificate", client_key: "Private key",
  amqp_addresses: "Addresses", ca_certificate: "CA certificate",
};
const values = new Map();
let expected = JSON.parse(sessionStorage.getItem(STORED) || "[]");
let shown = null;

function keep(entries) {
  expected = entries;
  if (expected.length) sessionStorage.setItem(STORED, JSON.stringify(expected));
  else sessionStorage.removeItem(STORED);
}

export const unsaved = () => expected.map(({ tenant }) => tenant);

export function expectCredentials({ id, tenant, credentials_key: key }) {
  if (expected.some((entry) => entry.id === id)) return;
  keep([...expected, { id, tenant, key, shown: false }]);
  showOnceCreated(id);
}

// After a reload: what is still to be shown is waited for again, and what is lost is said to be.
export function resumeCredentials() {
  for (const entry of expected) {
    if (values.has(entry.id)) unsavedNotice(entry);
    else if (entry.shown) {
      lost(entry, `The credentials of ${entry.tenant} were on the screen when the page was reloaded, and can't be shown again.`);
    }
    else showOnceCreated(entry.id);
  }
}

async function showOnceCreated(id) {
  const operation = await watch({ id });
  const entry = expected.find((each) => each.id === id);
  if (!operation || !entry || byId(noticeOf(entry))) return;
  if (operation.status !== "succeeded") {
    forget(entry); // there are none
    return;
  }
  if (["delivered", "expired"].includes(operation.credentials)) {
    lost(entry, `The credentials of ${entry.tenant} were not fetched ${operation.credentials === "expired" ? "in time" : "here"}.`);
    return;
  }
  unsavedNotice(entry);
  // Whoever is typing or answering a question is not interrupted.
  const busy = document.querySelector("dialog[open]") || document.activeElement?.matches("input, select, textarea");
  if (!busy && !document.hidden) await open(entry);
}

// One address is in the URI.
const textOf = (value) => (Array.isArray(value) ? value.length > 1 && value.join(", ") : value);

const noticeOf = (entry) => `credentials-${entry.id}`;

function notice(entry, text, kind, ...buttons) {
  byId(noticeOf(entry))?.remove();
  byId("notices").append(element("li", { id: noticeOf(entry), class: `note ${kind}` }, element("p", {}, text),
    element("div", { class: "buttons" }, buttons)));
}

const unsavedNotice = (entry) => notice(entry, `The new credentials of ${entry.tenant} are not saved yet.`, "warn",
  button("Show credentials", () => open(entry), { class: "" }));

function lost(entry, text) {
  notice(entry, `${text} If they were not saved, rotate the credentials of ${entry.tenant} again.`, "bad",
    element("a", { class: "button", href: `#/tenants/${entry.tenant}` }, `Go to ${entry.tenant}`),
    button("Dismiss", () => forget(entry)));
}

function forget(entry) {
  values.delete(entry.id);
  keep(expected.filter(({ id }) => id !== entry.id));
  const held = byId(noticeOf(entry))?.contains(document.activeElement);
  byId(noticeOf(entry))?.remove();
  if (held) byId("main").focus();
}

async function open(entry) {
  entry.shown = true;
  keep(expected);
  try {
    if (!values.has(entry.id)) {
      values.set(entry.id, await ask("POST", `/v1/operations/${entry.id}/credentials`, { credentials_key: entry.key }));
    }
  } catch (error) {
    entry.shown = false;
    keep(expected);
    if (error.kind === "already-delivered") lost(entry, `The credentials of ${entry.tenant} can't be shown again.`);
    else document.dispatchEvent(new CustomEvent("failed", { detail: error }));
    return;
  }
  shown = entry;
  byId("credentials-heading").textContent = `Credentials of ${entry.tenant}`;
  byId("credentials-said").textContent = "";
  const given = Object.entries(NAMES).filter(([name]) => textOf(values.get(entry.id)[name]));
  const rows = given.map(([name, label]) => {
    const value = element("span", { id: `credentials-${name}` }, textOf(values.get(entry.id)[name]));
    const copying = button("Copy", () => copy(value.textContent, label, value), { "aria-label": `Copy ${label}` });
    return element("div", {}, element("dt", {}, label), element("dd", {}, value, copying));
  });
  byId("credentials-list").replaceChildren(...rows);
  byId("credentials").showModal();
  byId("credentials-heading").focus();
}

async function copy(text, label, source) {
  try {
    await navigator.clipboard.writeText(text);
    byId("credentials-said").textContent = `${label} copied.`;
  } catch {
    getSelection().selectAllChildren(source);
    byId("credentials-said").textContent = `The browser doesn't let this page copy. ${label} is selected: copy it by hand.`;
  }
}

byId("credentials-all").addEventListener("click", () =>
  copy(JSON.stringify(values.get(shown.id), null, 2), "JSON", byId("credentials-list")));

byId("credentials-saved").addEventListener("click", () => {
  byId("credentials").close();
  forget(shown);
  byId("main").focus();
});

// Closed by Escape, they can be shown again until they are saved.
byId("credentials").addEventListener("close", () => byId("credentials-list").replaceChildren());

export async function mayLeave() {
  const tenants = unsaved();
  return !tenants.length || question({
    title: "Sign out without the new credentials?",
    text: [`The credentials of ${tenants.join(", ")} have not been saved. After signing out they can't be shown again, and have `
      + "to be rotated once more."],
    yes: "Sign out",
    danger: true,
  });
}

export function forgetCredentials() {
  values.clear();
  keep([]);
  byId("notices").replaceChildren();
}

addEventListener("beforeunload", (event) => {
  if (expected.length) event.preventDefault();
});
