// A tenant's health: its firing alerts, and its figures over the last hours. It renews itself while it is seen.

import { alertCard, forgetAlerts } from "./alerts.js";
import { ask, signedIn } from "./api.js";
import { CHARTS, Chart, momentText as moment, table } from "./charts.js";
import { button, element, plural, replace } from "./dom.js";

const EVERY_MS = 15_000;
const LEAST = 20; // values on a chart
const RANGES = [[1, "1 hour"], [6, "6 hours"], [24, "24 hours"]];
let hours = 6;
let tenant = "";
let turn = 0;
let off = false;
let last = null; // the last charts read
let next; // the timer of the next reading

const alertsPart = element("div", { class: "alerts" });
const fine = element("p", { class: "fine", role: "status" });
const note = element("div", { role: "status" });
const updated = element("p", { class: "hint" });
const charts = CHARTS.map((about) => new Chart(about));
const grid = element("div", { class: "charts" }, charts.map((chart) => chart.card));
const figures = element("div", { class: "scroll", role: "group", "aria-label": "Figures as a table", tabindex: "0" });
const details = element("details", { class: "card", "data-key": "figures" }, element("summary", {}, "Figures as a table"), figures);
const ranges = element("fieldset", { class: "ranges" }, element("legend", { class: "unseen" }, "Time shown"),
  RANGES.map(([value, label]) => element("label", {},
    element("input", { type: "radio", name: "hours", value, checked: value === hours, "data-key": `hours ${value}` }),
    element("span", {}, label))));
export const health = element("section", { "aria-labelledby": "health-heading", class: "health" },
  alertsPart,
  element("div", { class: "heading" }, element("h2", { id: "health-heading", tabindex: "-1", "data-key": "heading" }, "Health"), fine, ranges),
  note, grid, details, updated);

// Shows a tenant's health, and begins to renew it.
export function showHealth(id) {
  if (id === tenant) return;
  [tenant, last, off] = [id, null, false];
  clear();
  note.replaceChildren(element("p", { class: "hint loading" }, `Reading the last ${name(hours)}…`));
  read();
}

export function leaveHealth() {
  [tenant, turn] = ["", turn + 1];
  clear();
  clearTimeout(next);
}

const name = (value) => RANGES.find(([each]) => each === value)[1].replace(/^1 /, "");

function clear() {
  for (const part of [alertsPart, fine, note, figures]) part.replaceChildren();
  grid.hidden = details.hidden = updated.hidden = true;
}

async function read() {
  const mine = ++turn;
  clearTimeout(next);
  const path = `/v1/tenants/${encodeURIComponent(tenant)}`;
  const [alerts, answer] = await Promise.allSettled([ask("GET", `${path}/alerts`), ask("GET", `${path}/metrics?hours=${hours}`)]);
  if (mine !== turn || !signedIn()) return;
  const problem = alerts.reason ?? answer.reason;
  off = problem?.kind === "monitoring-off";
  ranges.hidden = off;
  if (alerts.value) showAlerts(alerts.value.alerts);
  if (answer.value) showCharts(answer.value);
  showProblem(problem);
  if (!off) next = setTimeout(renew, EVERY_MS);
}

function renew() {
  if (tenant && !off && !document.hidden) read(); // hidden: by the event, once it is seen again
}

function showAlerts(alerts) {
  const heading = element("h2", { tabindex: "-1", "data-key": "heading of alerts" }, plural(alerts.length, "firing alert"));
  replace(alertsPart, ...(alerts.length ? [heading, element("ul", { class: "plain" }, alerts.map(alertCard))] : []));
  fine.replaceChildren(...(alerts.length ? [] : [element("span", { "aria-hidden": "true" }, "✓ "), "No firing alerts"]));
}

// The answer from its first value on: a new tenant's figures fill the charts too.
function begun(answer) {
  const all = Object.entries(answer.figures);
  if (!all.length) return answer;
  const begins = all.map(([, values]) => Math.min(values.findIndex((value) => value !== null), values.length - LEAST));
  const first = Math.max(0, Math.min(...begins));
  const start = answer.start + first * answer.step;
  return { ...answer, start, since: first ? start : null, figures: Object.fromEntries(all.map(([key, values]) => [key, values.slice(first)])) };
}

function showCharts(read) {
  const answer = begun(read);
  last = answer;
  const empty = !Object.keys(answer.figures).length;
  grid.hidden = details.hidden = empty;
  updated.hidden = false;
  if (!empty) {
    for (const chart of charts) chart.show(answer);
    figures.replaceChildren(table(answer));
  }
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const now = new Date();
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "longOffset" }).formatToParts(now).find(({ type }) => type === "timeZoneName").value;
  const since = answer.since ? ` The first value is from ${moment(answer.since, hours)}.` : "";
  updated.textContent = `Updated at ${now.toLocaleTimeString()}, and every ${EVERY_MS / 1000} s while this is seen. A value every ${
    answer.step < 60 ? `${answer.step} s` : `${answer.step / 60} min`}. Times are yours: ${timeZone.replaceAll("_", " ")} (${zone.replace("GMT", "UTC")}).${since}`;
}

// Why there are no charts, or only old ones, and what to do.
function showProblem(problem) {
  const empty = last && !Object.keys(last.figures).length;
  if (off) {
    clear();
    note.replaceChildren(element("div", { class: "note" },
      element("p", {}, element("strong", {}, "Monitoring is off, so there are no charts and alerts.")),
      element("ol", {},
        element("li", {}, "Let the platform run Prometheus: ", code("kryonix:monitoring: true"), " in its config, then ", code("kryonix up"), "."),
        element("li", {}, "Start this service again. It finds the stack's Prometheus; for another one, use ",
          code("kryonix signup serve --prometheus URL"), ".")),
      button("Check again", () => {
        forgetAlerts();
        read().then(() => (note.querySelector("button") ?? health.querySelector("#health-heading")).focus());
      })));
  } else if (problem) {
    const text = problem.kind === "monitoring-unavailable" ? "Prometheus can't be read. The tenant and its messages are not affected."
      : problem.message;
    note.replaceChildren(element("p", { class: "note warn" }, element("strong", {}, text),
      last ? " The charts are from before." : "", " This page tries again by itself."));
  } else if (empty) {
    note.replaceChildren(element("p", { class: "note" }, element("strong", {}, "No figures yet."),
      ` There is nothing about ${tenant} in the last ${name(hours)}. A new tenant appears within a minute.`));
  } else note.replaceChildren();
}

const code = (text) => element("code", {}, text);

ranges.addEventListener("change", (event) => {
  hours = Number(event.target.value);
  read();
});
document.addEventListener("visibilitychange", renew);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));
