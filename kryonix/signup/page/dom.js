// Elements, texts and moments. Text is only ever set as text, so nothing in it can act as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute === "onclick") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(attribute, value);
  }
  made.append(...present(children));
  return made;
}

const present = (children) => children.flat().filter((child) => child || child === 0);

export const button = (label, onclick, attributes = {}) =>
  element("button", { type: "button", class: "quiet", ...attributes, onclick }, label);

export const badge = (text, kind = text) => element("span", { class: `badge ${kind}` }, text);

export const plural = (count, noun, more = `${noun}s`) => `${count.toLocaleString()} ${count === 1 ? noun : more}`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const moment = (text) =>
  element("time", { datetime: text }, new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));

export function meter(label, capacity) {
  if (capacity === null) return element("span", {}, "not in the catalog");
  const { used, allowed } = capacity;
  const full = used > allowed;
  return element(
    "span",
    { class: full ? "meter full" : "meter" },
    element("meter", { min: 0, max: allowed, value: used, "aria-hidden": "true" }),
    `${used} of ${allowed}${label ? ` ${label}` : ""}`,
  );
}

// What stays the same of an element that is shown anew.
export const keyOf = (each) => each?.closest("[data-key]")?.dataset.key;

// Shows new content. What is open stays open, and the keyboard's focus stays where it was; where that is gone, it goes to
// the link of the same row, or to the heading.
export function replace(container, ...children) {
  const open = new Set([...container.querySelectorAll("details[open]")].map(keyOf));
  const held = container.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const place = held && document.activeElement.tagName;
  container.replaceChildren(...present(children));
  for (const each of container.querySelectorAll("[data-key]")) {
    if (each.tagName === "DETAILS") each.open = open.has(each.dataset.key);
    if (held && each.dataset.key === held) (each.matches(place) ? each : each.querySelector(place))?.focus();
  }
  if (!held || container.contains(document.activeElement)) return;
  const near = [`${held.split(" ")[0]} open`, "heading"];
  [...container.querySelectorAll("[data-key]")].find((each) => near.includes(each.dataset.key))?.focus();
}
