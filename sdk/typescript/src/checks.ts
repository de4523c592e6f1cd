/** Checks of what a caller passes: times, counts, routes, ids and headers. */

import type { Catalog, Module } from "./catalog.ts";
import { ConfigurationError, UnknownRoute } from "./errors.ts";
import { DEVICES, type Headers, type HeaderValue, isBrokerHeader, isPrintable, type Outgoing } from "./message.ts";
import { nearest } from "./nearest.ts";

/** Three years: a clock can still add it. */
const MAX_SECONDS = 100_000_000;
const MAX_ID_BYTES = 255;
/** Far below the broker's own limit; it closes the channel above that. */
const MAX_EXPIRY_S = 366 * 86_400;
const SDK_HEADERS = new Set(["cliente-id", "modulo", "acao", "mobile-optimized", "traceparent", "tracestate"]);
/** Headers travel in one frame. Above 128 KiB the broker closes the connection, for everyone using it. */
const MAX_HEADER_BYTES = 65_536;
const MAX_HEADER_DEPTH = 10;
const NO_HEADERS: Headers = {};

/** Return a value for a message: quoted text, or a short form of anything else. */
export function shown(value: unknown, longest = 60): string {
  let text: string;
  try {
    if (typeof value === "string") text = quoted(value.slice(0, longest));
    else if (typeof value === "function") text = value.name || "a function";
    else if (typeof value === "object" && value !== null) text = JSON.stringify(value) ?? typeName(value);
    else text = typeof value === "bigint" ? `${value}n` : String(value);
  } catch {
    text = typeName(value); // the caller's own objects may throw anything
  }
  return text.slice(0, longest);
}

function quoted(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"')}'`;
}

/** Return the name of a value's type: `string`, `null`, or the class of an object. */
export function typeName(value: unknown): string {
  if (value === null) return "null";
  if (typeof value !== "object") return typeof value;
  try {
    return value.constructor?.name || "Object";
  } catch {
    return "Object";
  }
}

/** Return what was thrown, in words: the class and the message of an error. */
export function thrown(error: unknown): string {
  try {
    if (!(error instanceof Error)) return shown(error);
    return error.message ? `${error.name}: ${error.message}` : `${error.name}`;
  } catch {
    return "Error"; // the caller's own objects may throw anything
  }
}

/** Return what a handler has thrown, or an error in the place of an object that throws when it is read. */
export function readable(error: unknown): unknown {
  try {
    if (error instanceof Error) void `${error.name}${error.message}${error.stack}`;
    else String(error);
    return error;
  } catch {
    return new Error(`a value that cannot be read was thrown (${typeof error})`);
  }
}

/** Return a positive time in seconds. Throws ConfigurationError. */
export function checkedSeconds(name: string, value: unknown, messageId?: string): number {
  if (typeof value === "number" && value > 0 && value <= MAX_SECONDS) return value;
  const remedy = `Pass seconds, above 0 and up to ${MAX_SECONDS.toLocaleString("en")}`;
  throw new ConfigurationError(`${name}: ${shown(value)} is not a valid time`, { messageId, remedy });
}

/** Return a time in seconds; 0 means not to wait. Throws ConfigurationError. */
export function checkedPatience(name: string, value: unknown): number {
  return value === 0 ? 0 : checkedSeconds(name, value);
}

/** Return a whole number from 1 to `most`. Throws ConfigurationError. */
export function checkedCount(name: string, value: unknown, most: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) return value;
  const remedy = `Pass one from 1 to ${most.toLocaleString("en")}`;
  throw new ConfigurationError(`${name}: ${shown(value)} is not a whole number`, { remedy });
}

/** Throw ConfigurationError for a value, if there is one, that is not text. */
export function checkText(name: string, value: unknown): void {
  if (value === undefined || typeof value === "string") return;
  throw new ConfigurationError(`${name}: ${typeName(value)} is not text`, { remedy: "Pass a string" });
}

/** Return a copy of options, read once. Throws ConfigurationError unless they are an object with known names. */
export function readOptions<Options extends object>(options: Options, known: ReadonlySet<string>): Options {
  if (typeof options !== "object" || options === null) {
    const problem = `options: ${shown(options)} is not an object`;
    throw new ConfigurationError(problem, { remedy: "Pass an object such as {timeout: 10}" });
  }
  let read: Options;
  try {
    read = { ...options };
  } catch (error) {
    const problem = `the options cannot be read: ${thrown(error)}`;
    throw new ConfigurationError(problem, { remedy: "Pass plain values", cause: error });
  }
  checkNames("option", read, known);
  return read;
}

/** Throw ConfigurationError for a name that is not known: a misspelt one would count for nothing. */
export function checkNames(what: string, options: object, known: ReadonlySet<string>): void {
  for (const name in options) {
    if (known.has(name) || !Object.hasOwn(options, name)) continue;
    throw new ConfigurationError(`there is no ${what} ${shown(name)}`, { remedy: sentence(nearest(name, [...known])) });
  }
}

/** Throw ConfigurationError for a catalog, if there is one, that is not parsed. */
export function checkCatalog(catalog: Catalog | undefined): void {
  if (catalog === undefined || typeof catalog?.retry?.firstDelay === "number") return;
  const remedy = "Pass what parseCatalog makes of it: parseCatalog(YAML.parse(text))";
  throw new ConfigurationError(`catalog: ${typeName(catalog)} is not a parsed catalog`, { remedy });
}

/** Throw ConfigurationError for an object, if there is one, without some of the methods of its kind. */
export function checkMethods(name: string, value: unknown, kind: string, methods: readonly string[]): void {
  if (value === undefined || value === null) return;
  const object = value as Record<string, unknown>;
  const missing = methods.filter((method) => typeof object[method] !== "function");
  if (typeof value === "object" && missing.length === 0) return;
  const what = typeof value === "function" ? "a class or function" : typeName(value);
  const why = typeof value === "object" ? ` (it has no ${missing.join(" and no ")})` : "";
  throw new ConfigurationError(`${name}: ${what} is not ${kind}${why}`, { remedy: "Pass an object of that type" });
}

/** Throw ConfigurationError unless the handler is a function of one message. */
export function checkHandler(handler: unknown): void {
  if (typeof handler !== "function") {
    const remedy = "Write `async (message) => …`";
    throw new ConfigurationError(`handler: ${typeName(handler)} is not a function`, { remedy });
  }
  if (/^class\b/.test(Function.prototype.toString.call(handler))) {
    const remedy = "Pass a function, or a method of an object: `(message) => object.handle(message)`";
    throw new ConfigurationError(`handler: ${handler.name || "it"} is a class, not a function`, { remedy });
  }
  if (/Generator/.test(Object.prototype.toString.call(handler))) {
    const problem = `handler: ${handler.name || "it"} is a generator, and nobody would run it`;
    throw new ConfigurationError(problem, { remedy: "Write `async (message) => …`" });
  }
  if (handler.length > 1) {
    const problem = `handler: ${handler.name || "it"} does not take the message as its only argument`;
    throw new ConfigurationError(problem, { remedy: "Write `async (message) => …`" });
  }
}

/** Return the catalog's module. Throws UnknownRoute with the nearest name. */
export function checkModule(catalog: Catalog, module: unknown, messageId?: string): Module {
  if (typeof module === "string" && Object.hasOwn(catalog.modules, module)) return catalog.modules[module]!;
  throw unknown(`unknown module ${shown(module)}`, module, Object.keys(catalog.modules), messageId);
}

/** Throw UnknownRoute with the nearest name. Pass `messageId` only if the caller has chosen it. */
export function checkRoute(catalog: Catalog, module: unknown, action: unknown, messageId?: string): void {
  const { actions } = checkModule(catalog, module, messageId);
  if (actions.includes(action as string)) return;
  throw unknown(`unknown action ${shown(action)} of the module ${module}`, action, actions, messageId);
}

function unknown(problem: string, name: unknown, known: readonly string[], messageId?: string): UnknownRoute {
  const hint = nearest(typeof name === "string" ? name.slice(0, 80) : "", known);
  return new UnknownRoute(problem, { messageId, remedy: sentence(hint) });
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Throw ConfigurationError for an option that is invalid, or would break the connection. */
export function checkOptions(message: Outgoing, messageId: unknown): void {
  if (typeof messageId !== "string" || !isId(messageId)) {
    const problem = `messageId: ${shown(messageId)} is not printable text of 1 to ${MAX_ID_BYTES} bytes`;
    throw new ConfigurationError(problem, { remedy: "Leave it out to get a new id" });
  }
  const { priority = 5, device = "unknown", expires, headers = NO_HEADERS } = message;
  if (!Number.isInteger(priority) || priority < 0 || priority > 10) {
    const problem = `priority: ${shown(priority)} is not a whole number from 0 to 10`;
    throw new ConfigurationError(problem, { messageId, remedy: "8-10 is high, 5-7 medium, 0-4 low" });
  }
  if (!DEVICES.includes(device)) {
    const problem = `device: ${shown(device)} is not one of ${DEVICES.join(", ")}`;
    throw new ConfigurationError(problem, { messageId, remedy: "Pass one of them, or leave it out" });
  }
  if (expires !== undefined) milliseconds(expires, messageId);
  if (headers !== NO_HEADERS) checkHeaders(headers, messageId);
}

function isId(text: string): boolean {
  if (text.length === 0 || text.length > MAX_ID_BYTES || !isPrintable(text)) return false;
  return text.length <= MAX_ID_BYTES / 3 || Buffer.byteLength(text) <= MAX_ID_BYTES;
}

/** Return a time to live in ms. Throws ConfigurationError. */
export function milliseconds(expires: unknown, messageId: string): number {
  const seconds = checkedSeconds("expires", expires, messageId);
  if (seconds >= 0.001 && seconds <= MAX_EXPIRY_S) return Math.round(seconds * 1000);
  const problem = `expires: ${shown(expires)} is not between a millisecond and a year`;
  throw new ConfigurationError(problem, { messageId, remedy: "Leave it out to use the module's retention" });
}

/** Return true for an object made by `{}`, or without a prototype. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  // An object of another realm (a worker's, or vitest's) has another Object.
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function checkHeaders(headers: unknown, messageId: string): void {
  if (!isPlainObject(headers)) {
    const problem = `headers: ${typeName(headers)} is not a plain object`;
    throw new ConfigurationError(problem, { messageId, remedy: "Pass an object such as {name: value}" });
  }
  let size = 0;
  for (const name of Object.keys(headers)) {
    if (!isId(name)) {
      const problem = `the header name ${shown(name)} is not printable text of 1 to ${MAX_ID_BYTES} bytes`;
      throw new ConfigurationError(problem, { messageId, remedy: "Choose another name" });
    }
    if (isBrokerHeader(name) || SDK_HEADERS.has(name) || name.startsWith("kryonix-")) {
      const owner = isBrokerHeader(name) ? "the broker" : "the SDK";
      const problem = `the header '${name}' is reserved by ${owner}`;
      throw new ConfigurationError(problem, { messageId, remedy: "Choose another name" });
    }
    const found = sizeOf(headers[name], MAX_HEADER_DEPTH);
    if (typeof found === "string") {
      const problem = `the header '${name}' cannot be sent: ${found}`;
      const remedy = "Use text, numbers, booleans, null, Dates, arrays and plain objects; send anything else as data";
      throw new ConfigurationError(problem, { messageId, remedy });
    }
    size += Buffer.byteLength(name) + found;
  }
  if (size > MAX_HEADER_BYTES) {
    const bytes = `${size.toLocaleString("en")} bytes, more than ${MAX_HEADER_BYTES.toLocaleString("en")}`;
    throw new ConfigurationError(`the headers are ${bytes}`, { messageId, remedy: "Send them as data" });
  }
}

const MAX_INTEGER = 2n ** 63n;
const MAX_STAMP_MS = 2 ** 32 * 1000;

/** Return the approximate size of a header's value on the wire, in bytes, or what is wrong with it. */
function sizeOf(value: unknown, depth: number): number | string {
  if (depth === 0) return `it is nested deeper than ${MAX_HEADER_DEPTH}`;
  switch (typeof value) {
    case "boolean":
      return 9;
    case "string":
      return value.isWellFormed() ? 5 + Buffer.byteLength(value) : refused(value);
    case "number":
      return Number.isFinite(value) ? 9 : refused(value);
    case "bigint":
      return value >= -MAX_INTEGER && value < MAX_INTEGER ? 9 : refused(value);
  }
  if (value === null) return 9;
  if (value instanceof Date) return value.getTime() >= 0 && value.getTime() < MAX_STAMP_MS ? 9 : refused(value);
  if (Array.isArray(value)) return total(value, depth);
  if (!isPlainObject(value) || !Object.keys(value).every(isId)) return refused(value);
  return total(Object.keys(value).concat(Object.values(value) as string[]), depth);
}

function total(values: readonly unknown[], depth: number): number | string {
  let size = 5;
  for (const value of values) {
    const found = sizeOf(value, depth - 1);
    if (typeof found === "string") return found;
    size += found;
  }
  return size;
}

function refused(value: unknown): string {
  return `${typeName(value)} ${shown(value)} is not a header value`;
}

/** Return true for a header's value that is a whole number of any kind. */
export function isWhole(value: HeaderValue | undefined): value is number | bigint {
  return typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value));
}
