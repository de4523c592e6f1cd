// Charts of a tenant's figures, drawn by uPlot. Each can be read by pointer, by keyboard, and by screen readers.

import { element } from "./dom.js";

const { uPlot } = window;
const HEIGHT = 150;
const COUNT = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const RATE = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const HOUR = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "numeric", hour: "2-digit", minute: "2-digit" });
const NEAR = 0.8; // of a limit
const SHOWN = 0.25; // a limit is drawn from this share of it on: below, it would flatten the line
const WHOLE = [1, 2, 5].flatMap((digit) => [...Array(7).keys()].map((power) => digit * 10 ** power)).sort((one, other) => one - other);
const RECENT = 3; // values looked at for the present one

const count = (value) => COUNT.format(value);
const rate = (value) => RATE.format(value);
const short = (value) => (value < 10_000 ? RATE.format(value) : value < 1e6 ? `${RATE.format(value / 1000)}k` : `${RATE.format(value / 1e6)}M`);
const seconds = (value) => (value < 1 ? `${RATE.format(value * 1000)} ms` : value < 120 ? `${RATE.format(value)} s`
  : value < 7200 ? `${RATE.format(value / 60)} min` : `${RATE.format(value / 3600)} h`);

// What each chart shows: its lines, the limits they stay below, and why there may be nothing to show.
export const CHARTS = [
  { id: "depth", title: "Messages waiting", lines: [["waiting", "Waiting"], ["unacknowledged", "Being handled"]], text: count, wide: true },
  { id: "rates", title: "Messages per second", lines: [["published_per_s", "Published"], ["acknowledged_per_s", "Acknowledged"]],
    text: rate, wide: true, none: "Nothing has been published yet." },
  { id: "wait", title: "Wait", lines: [["wait_p95_s", "95 % waited less than"]], text: seconds,
    none: ["Measured by workers, if the broker stamps messages: ", element("code", {}, "kryonix worker --metrics-port"), " and ",
      element("code", {}, "kryonix:receiveTime"), "."] },
  { id: "fullest", title: "Fullest queue", lines: [["fullest_queue", "Messages"]], text: count,
    limits: [["queue_depth", "limit"], ["scale_up_threshold", "scale-up"]] },
  { id: "lost", title: "Dead letters and unrouted", lines: [["dead_letters", "Dead letters"], ["unrouted", "Unrouted"]], text: count },
  { id: "consumers", title: "Consumers", lines: [["consumers", "Consumers"]], text: count },
  { id: "connections", title: "Connections", lines: [["connections", "Open"]], text: count, limits: [["connections", "limit"]], whole: true,
    none: ["Measured by ", element("code", {}, "kryonix exporter"), "."] },
  { id: "channels", title: "Channels", lines: [["channels", "Open"]], text: count, limits: [["channels", "limit"]], whole: true,
    none: ["Measured by ", element("code", {}, "kryonix exporter"), "."] },
];

const numbers = (values) => (values ?? []).filter((value) => value !== null);
const present = (values) => (values ?? []).slice(-RECENT).findLast((value) => value !== null) ?? null;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const momentText = (at, hours) => (hours > 12 ? DAY : HOUR).format(at * 1000);

// One chart: its card, filled by `show`.
export class Chart {
  constructor(about) {
    this.about = about;
    this.value = element("p", { class: "now" });
    this.legend = element("ul", { class: "plain legend" });
    this.plot = element("div", { class: "plot" });
    this.card = element("figure", { class: about.wide ? "card chart wide" : "card chart", "data-chart": about.id },
      element("figcaption", {}, element("h3", {}, about.title), this.value), this.legend, this.plot);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.leave());
    this.size = new ResizeObserver(() => this.fit());
    this.size.observe(this.plot);
  }

  show(answer) {
    this.answer = answer;
    const { figures, limits, start, step, hours } = answer;
    this.times = Array.from({ length: Object.values(figures)[0].length }, (_, at) => start + at * step);
    this.lines = this.about.lines.filter(([name]) => numbers(figures[name]).length);
    this.limits = (this.about.limits ?? []).filter(([name]) => limits[name] !== undefined)
      .map(([name, label]) => ({ label, at: limits[name] }));
    this.plot.hidden = !this.lines.length;
    this.showNow();
    if (!this.lines.length) {
      this.close();
      this.legend.replaceChildren(element("li", { class: "hint" }, ...[this.about.none ?? "No values in this time."].flat()
        .map((part) => (part instanceof Node ? part.cloneNode(true) : part))));
      return;
    }
    const top = Math.max(...this.lines.flatMap(([name]) => numbers(figures[name])));
    this.drawn = this.limits.filter(({ at }) => this.about.whole || top >= at * SHOWN);
    this.top = Math.max(top, ...this.drawn.map(({ at }) => at), this.about.text === count ? 4 : 0.001) * 1.08;
    const data = [this.times, ...this.lines.map(([name]) => figures[name])];
    const drawnAs = this.lines.map(([name]) => name).join();
    if (this.chart && this.drawnAs === drawnAs && this.hours === hours) this.chart.setData(data);
    else {
      [this.drawnAs, this.hours] = [drawnAs, hours];
      this.draw(data);
    }
    this.describe();
    this.read(this.chart.cursor.idx);
  }

  // The present value, and its share of the limit.
  showNow() {
    const { figures } = this.answer;
    const [name] = this.about.lines[0];
    const now = present(figures[name]);
    const limit = this.limits.find(({ label }) => label === "limit");
    const share = limit && now !== null ? now / limit.at : 0;
    const state = share >= 1 ? "at the limit" : share >= NEAR ? "near the limit" : "";
    this.card.classList.toggle("near", Boolean(state));
    const parts = now === null ? [element("span", { class: "hint" }, numbers(figures[name]).length ? "no value now" : "not measured")]
      : [element("strong", {}, this.about.text(now)), limit && this.about.whole ? ` of ${this.about.text(limit.at)}` : "",
        state && element("span", { class: "badge warn" }, state)];
    this.value.replaceChildren(...parts.filter(Boolean));
  }

  draw(data) {
    this.close();
    const [soft, line, font] = [style("--soft"), style("--line"), "12px system-ui, sans-serif"];
    const strokes = [style("--chart-1"), style("--chart-2")];
    const axis = { stroke: soft, font, ticks: { show: false } };
    this.chart = new uPlot({
      width: this.plot.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "health" }, points: { size: 8 } },
      scales: { x: { time: true, range: (_, from, to) => [from, to] }, y: { range: () => [0, this.top] } },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 24, values: (_, at) => at.map((each) => HOUR.format(each * 1000)) },
        { ...axis, grid: { stroke: line, width: 1 }, space: 34, size: 50, gap: 4, incrs: this.about.text === count ? WHOLE : undefined,
          values: (_, at) => at.map((value) => (this.about.text === seconds ? (value ? seconds(value) : "0") : short(value))) },
      ],
      series: [{}, ...data.slice(1).map((values, at) => ({
        stroke: strokes[at], width: 2, dash: at ? [6, 4] : undefined, fill: at ? undefined : style("--chart-fill"),
        points: { show: true, size: 5, fill: strokes[at], filter: () => alone(values) },
      }))],
      hooks: {
        drawAxes: [(chart) => this.drawLimits(chart)],
        setCursor: [(chart) => this.read(chart.cursor.idx)],
      },
    }, data, this.plot);
  }

  drawLimits({ ctx, bbox, valToPos }) {
    ctx.save();
    this.drawn.forEach(({ label, at }) => {
      const y = Math.round(valToPos(at, "y", true));
      ctx.strokeStyle = style(label === "limit" ? "--bad" : "--warn");
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.setLineDash(label === "limit" ? [] : [2 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    });
    ctx.restore();
  }

  // The legend: what each line is, and its value where the pointer is, or now. Pointed at, there is room for the time only.
  read(at) {
    const { figures, hours } = this.answer;
    const pointed = at !== null && at !== undefined;
    const swatch = (kind) => element("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
    const entry = (kind, label, value) => element("li", {}, swatch(kind), `${label} `, element("span", { class: "value" }, value));
    const valueOf = (name) => {
      const value = pointed ? figures[name][at] : present(figures[name]);
      return value === null || value === undefined ? "–" : this.about.text(value);
    };
    this.legend.replaceChildren(
      ...this.lines.map(([name, label], line) => entry(`line-${line + 1}`, label, valueOf(name))),
      ...(pointed ? [] : this.limits).map((limit) => entry(limit.label === "limit" ? "limit" : "threshold", limit.label, this.about.text(limit.at))),
      pointed ? element("li", { class: "at" }, momentText(this.times[at], hours)) : "");
  }

  describe() {
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("tabindex", "0");
    this.plot.setAttribute("data-key", `chart ${this.about.id}`);
    this.plot.setAttribute("aria-label", `${this.about.title}, over time`);
    this.plot.setAttribute("aria-valuemin", "0");
    this.plot.setAttribute("aria-valuemax", String(this.times.length - 1));
    this.say(this.chart.cursor.idx ?? this.times.length - 1);
  }

  say(at) {
    const values = this.lines.map(([name, label]) => {
      const value = this.answer.figures[name][at];
      return `${label} ${value === null ? "no value" : this.about.text(value)}`;
    });
    this.plot.setAttribute("aria-valuenow", String(at));
    this.plot.setAttribute("aria-valuetext", `${momentText(this.times[at], this.answer.hours)}: ${values.join(", ")}`);
  }

  key(event) {
    const last = this.times.length - 1;
    const from = this.chart.cursor.idx ?? last;
    const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, PageDown: from - 20, PageUp: from + 20,
      Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.leave();
    if (to === undefined) return;
    event.preventDefault();
    const at = Math.min(Math.max(to, 0), last);
    this.chart.setCursor({ left: this.chart.valToPos(this.times[at], "x"), top: HEIGHT / 2 }, true, true);
    this.say(at);
  }

  leave() {
    this.chart?.setCursor({ left: -10, top: -10 }, true, true);
  }

  fit() {
    const width = this.plot.clientWidth;
    if (this.chart && width && Math.abs(width - this.chart.width) > 1) this.chart.setSize({ width, height: HEIGHT });
  }

  close() {
    this.chart?.destroy();
    this.chart = null;
  }

  // In other colours, after the colour scheme has changed.
  redraw() {
    if (!this.chart) return;
    this.close();
    this.drawnAs = "";
    this.show(this.answer);
  }
}

// The values that no line leads to or from: they are drawn as points.
function alone(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null) found.push(at);
  });
  return found;
}

// The same figures as a table: what they are now, and their lowest and highest.
export function table(answer) {
  const cell = (...content) => element("td", { class: "number" }, content);
  const rows = CHARTS.flatMap(({ title, lines, limits = [], text }) => lines.map(([name, label]) => {
    const values = answer.figures[name];
    const known = numbers(values);
    const label2 = lines.length > 1 || title === label ? label : `${title}: ${label.charAt(0).toLowerCase()}${label.slice(1)}`;
    const head = element("th", { scope: "row" }, label2);
    const limit = limits.find(([, kind]) => kind === "limit");
    const most = limit && answer.limits[limit[0]] !== undefined ? text(answer.limits[limit[0]]) : "";
    if (!known.length) return element("tr", {}, head, element("td", { colspan: "3", class: "hint" }, "not measured"), cell(most));
    const now = present(values);
    const highest = known.reduce((one, other) => Math.max(one, other));
    const when = momentText(answer.start + values.indexOf(highest) * answer.step, answer.hours);
    return element("tr", {}, head, cell(now === null ? "–" : text(now)), cell(text(known.reduce((one, other) => Math.min(one, other)))),
      cell(text(highest), element("span", { class: "when" }, ` (${when})`)), cell(most));
  }));
  const columns = ["Figure", "Now", "Lowest", "Highest", "Limit"].map((label, at) =>
    element("th", { scope: "col", class: at ? "number" : null }, label));
  return element("table", { class: "figures" }, element("thead", {}, element("tr", {}, columns)), element("tbody", {}, rows));
}
