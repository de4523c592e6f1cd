// Firing alerts: of one tenant in its view, of all in the list.

import { ask } from "./api.js";
import { element, moment, plural } from "./dom.js";

const SIGNS = { critical: "◆", warning: "▲", info: "●" };
let known = null; // the alerts of all; null where they can't be read
let off = false;

// Reads the alerts of all tenants. A service without monitoring is asked once.
export async function readAlerts() {
  if (off) return;
  try {
    known = (await ask("GET", "/v1/alerts")).alerts;
  } catch (error) {
    known = null;
    off = error.kind === "monitoring-off";
  }
}

export function forgetAlerts() {
  [known, off] = [null, false];
}

export const monitored = () => !off;
export const alertsOf = (tenant) => known?.filter((alert) => alert.tenant === tenant) ?? [];
export const alertsOfPlatform = () => alertsOf(null);
export const allAlerts = () => known;

export const severity = (kind, text = kind) =>
  element("span", { class: `badge severity ${kind}` }, element("span", { "aria-hidden": "true" }, `${SIGNS[kind]} `), text);

// A mark in the list: how many, and how severe the most severe is.
export function mark(tenant) {
  const alerts = alertsOf(tenant);
  if (!alerts.length) return null;
  const worst = alerts[0].severity;
  const same = alerts.filter((alert) => alert.severity === worst).length;
  const rest = alerts.length - same;
  const title = alerts.map((alert) => alert.summary).join("\n");
  return element("a", { href: `#/tenants/${tenant}`, class: "mark", title, "data-key": `${tenant} alerts` },
    severity(worst, `${same} ${worst}${rest ? `, ${rest} more` : ""}`));
}

export function alertCard(alert) {
  const since = new Date(alert.since);
  return element("li", { class: `card alert ${alert.severity}`, "data-alert": alert.name },
    element("p", { class: "title" }, severity(alert.severity), " ", element("strong", {}, alert.summary)),
    alert.description && element("p", {}, alert.description),
    element("p", { class: "hint" }, alert.tenant ? "" : "Platform · ", "Since ", moment(alert.since), ` (${lasted(Date.now() - since)}) · `, alert.name, about(alert),
      alert.runbook && " · ", alert.runbook && runbook(alert)));
}

const about = ({ labels: { queue, modulo, acao } }) => {
  const action = [modulo, acao].filter(Boolean).join(".");
  return queue || action ? ` · ${queue || action}` : "";
};

// The annotation of a rule may be any text: only a page's address, or the one of our runbooks, becomes a link.
function runbook(alert) {
  if (!/^(https?:\/\/|\/runbooks#)/.test(alert.runbook)) return ["Runbook: ", element("code", {}, alert.runbook)];
  return element("a", { href: alert.runbook, target: "_blank", rel: "noopener" },
    "What to do", element("span", { class: "unseen" }, ` about ${alert.name} (opens a new tab)`));
}

export function lasted(ms) {
  const minutes = Math.max(0, Math.floor(ms / 60_000));
  if (minutes < 1) return "less than a minute";
  if (minutes < 120) return plural(minutes, "minute");
  return minutes < 48 * 60 ? plural(Math.floor(minutes / 60), "hour") : plural(Math.floor(minutes / 1440), "day");
}
