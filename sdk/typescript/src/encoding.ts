/** Encode data as JSON or raw bytes, and decode it, other applications' charsets and compression too. */

import { charsetOf, charsetOfJson, type TextReader, wrongUtf8 } from "./charsets.ts";
import { isPlainObject, shown, typeName } from "./checks.ts";
import { type Inflation, inflate, MAX_BYTES, Undecodable } from "./compression.ts";
import { NotSerializable } from "./errors.ts";
import type { Headers } from "./message.ts";

export { compress, MAX_BYTES, MIN_COMPRESSED, Undecodable } from "./compression.ts";

export const JSON_TYPE = "application/json";
export const OCTETS = "application/octet-stream";
/** The second is kombu's. */
const BINARY = new Set([OCTETS, "application/data"]);

const SERIALIZABLE =
  "Send text, numbers, bigints, booleans, null, Dates, arrays, and objects of them or with a toJSON method; or bytes";
/** Steps of the path to a value that cannot be sent. */
const MAX_PATH = 20;
/** Characters of a key in such a path; a longer one is cut. */
const MAX_KEY = 40;
/** Content encodings that neither compress nor name a charset. */
const UNCHANGED = new Set(["", "identity", "binary", "7bit", "8bit"]);
const INFLATIONS: Readonly<Record<string, Inflation>> = {
  zstd: "zstd",
  "application/zstd": "zstd",
  gzip: "gzip",
  "x-gzip": "gzip",
  deflate: "deflate",
  "application/x-gzip": "deflate", // kombu's name for zlib's format
};

/** Node's JSON since version 21, which TypeScript does not know yet. */
const { rawJSON } = JSON as typeof JSON & { rawJSON(text: string): unknown };

/** Return data as bytes, and the content type. Throws NotSerializable. */
export function encode(data: unknown, messageId: string, maxBytes: number = MAX_BYTES): [body: Buffer, type: string] {
  const bytes = bytesOf(data);
  const [body, type] = bytes === undefined ? [encodeJson(data, messageId), JSON_TYPE] : [bytes, OCTETS];
  if (body.length <= maxBytes) return [body, type];
  const [size, most] = [body.length.toLocaleString("en"), maxBytes.toLocaleString("en")];
  const remedy = "Store the data elsewhere and send its location";
  throw new NotSerializable(`the data is ${size} bytes, the broker takes at most ${most}`, { messageId, remedy });
}

/** Return a copy of bytes, which their owner may change before they are sent; undefined for anything else. */
function bytesOf(data: unknown): Buffer | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  if (ArrayBuffer.isView(data)) return Buffer.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return Buffer.from(new Uint8Array(data));
  return undefined;
}

function encodeJson(data: unknown, messageId: string): Buffer {
  let why = "";
  try {
    const kind = kindOf(data, 0);
    if (kind !== Kind.Wrong) {
      return Buffer.from(kind === Kind.Plain ? JSON.stringify(data) : JSON.stringify(data, withIntegers));
    }
  } catch (error) {
    // The caller's own objects may throw anything.
    why = error instanceof Error ? `: ${error.message}` : "";
  }
  throw new NotSerializable(`${culprit(data)} is not serialisable as JSON${why}`, { messageId, remedy: SERIALIZABLE });
}

/** How a value can be written: by JSON.stringify as it is, with its bigints as integers, or not at all. */
const Kind = { Plain: 0, Bigint: 1, Wrong: 2 } as const;
type Kind = (typeof Kind)[keyof typeof Kind];

const MAX_DEPTH = 900;

/** JSON.stringify would leave out functions, write NaN as null and a Set as {}: nothing is sent changed without a word. */
function kindOf(value: unknown, depth: number): Kind {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? Kind.Plain : Kind.Wrong;
    case "number":
      return Number.isFinite(value) ? Kind.Plain : Kind.Wrong;
    case "boolean":
      return Kind.Plain;
    case "bigint":
      return Kind.Bigint;
    case "object":
      if (value === null) return Kind.Plain;
      if (depth > MAX_DEPTH) throw new RangeError("it is nested too deeply, or contains itself");
      if (Array.isArray(value)) return kindOfArray(value, depth);
      return kindOfObject(value as Record<string, unknown>, depth);
    default:
      return Kind.Wrong;
  }
}

function kindOfArray(values: readonly unknown[], depth: number): Kind {
  let found: Kind = Kind.Plain;
  // By index: a hole would be written as null.
  for (let at = 0; at < values.length; at++) {
    const kind = kindOf(values[at], depth + 1);
    if (kind === Kind.Wrong) return kind;
    if (kind > found) found = kind;
  }
  return found;
}

function kindOfObject(value: Record<string, unknown>, depth: number): Kind {
  // A Buffer's toJSON would make an object of it.
  if (ArrayBuffer.isView(value)) return Kind.Wrong;
  if (typeof value.toJSON === "function") return kindOfMade(value, depth);
  if (!isPlainObject(value) && isOpaque(value)) return Kind.Wrong;
  let found: Kind = Kind.Plain;
  for (const key in value) {
    const each = value[key];
    // As everywhere in JavaScript, a property that is undefined is one that is not there.
    if (each === undefined || !Object.hasOwn(value, key)) continue;
    const kind = kindOf(each, depth + 1);
    if (kind === Kind.Wrong || !key.isWellFormed()) return Kind.Wrong;
    if (kind > found) found = kind;
  }
  return found;
}

/** Return the kind of what a value's own toJSON makes of it. An invalid Date makes null. */
function kindOfMade(value: object, depth: number): Kind {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? Kind.Wrong : Kind.Plain;
  return kindOf((value as { toJSON(): unknown }).toJSON(), depth + 1);
}

/** Return true for an object whose content is not in its properties. */
function isOpaque(value: object): boolean {
  return (
    value instanceof Map ||
    value instanceof Set ||
    value instanceof WeakMap ||
    value instanceof WeakSet ||
    value instanceof Promise ||
    value instanceof RegExp ||
    value instanceof Error ||
    value instanceof ArrayBuffer ||
    ArrayBuffer.isView(value)
  );
}

/** Look at the property itself: many programs give BigInt a toJSON, which would make text of it first. */
function withIntegers(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const own = this[key];
  return typeof own === "bigint" ? rawJSON(own.toString()) : value;
}

/** Return path and type of the innermost value that cannot be encoded, such as `lead.tags (Set)`. */
function culprit(data: unknown): string {
  let [path, value] = ["", data];
  const outer: unknown[] = [data];
  try {
    while (outer.length <= MAX_PATH) {
      const found = children(value).find(([, child]) => isWrong(child) && !outer.includes(child));
      if (found === undefined) break;
      path += found[0];
      value = found[1];
      outer.push(value);
    }
  } catch {
    // The caller's own objects may throw anything: the path so far.
  }
  return `${path.replace(/^\./, "") || "the data"} (${typeof value === "object" ? typeName(value) : kindName(value)})`;
}

function kindName(value: unknown): string {
  return typeof value === "number" || typeof value === "undefined" ? String(value) : typeof value;
}

function isWrong(value: unknown): boolean {
  try {
    return kindOf(value, 0) === Kind.Wrong;
  } catch {
    return true;
  }
}

/** Return a container's values, with the step to each. */
function children(value: unknown): [step: string, child: unknown][] {
  if (typeof value !== "object" || value === null || isOpaque(value)) return [];
  if (Array.isArray(value)) return Array.from(value, (child, at) => [`[${at}]`, child]);
  return Object.entries(value)
    .filter(([, child]) => child !== undefined)
    .map(([key, child]) => [stepOf(key), child]);
}

/** Return one step of a path: `.name` or `['other text']`. */
function stepOf(key: string): string {
  const named = /^[\p{L}_$][\p{L}\p{N}_$]*$/u.test(key) && key.length <= MAX_KEY;
  return named ? `.${key}` : `[${shown(key, MAX_KEY)}]`;
}

/** Return the encodings of a message's body. kombu names its compression in a header. */
export function statedEncoding(headers: Headers, contentEncoding: string | undefined): string | undefined {
  const compression = headers.compression;
  if (typeof compression === "string" && compression.startsWith("application/")) {
    return `${compression},${contentEncoding ?? ""}`;
  }
  return contentEncoding;
}

/** Return a body as data: bytes for octets, text for text, else JSON. Throws Undecodable. */
export function decode(
  body: Buffer,
  contentType: string | undefined,
  contentEncoding: string | undefined,
  maxBytes: number = MAX_BYTES,
): unknown {
  const { how, charset } = contentEncoding ? readEncoding(contentEncoding) : NOTHING_STATED;
  const content = how === undefined ? body : inflate(body, how, maxBytes);
  const kind = contentType === undefined ? JSON_TYPE : contentType.split(";", 1)[0]!.trim().toLowerCase();
  if (BINARY.has(kind)) return content;
  const isText = kind.startsWith("text/") && !kind.endsWith("json");
  // Other types are read as JSON: many clients set none, or a wrong one. The reason names it if that fails.
  const stated = isText || kind.endsWith("json") ? "" : ` (content-type ${shown(kind)})`;
  const text = readText(content, charset ?? charsetIn(contentType), isText, stated);
  if (isText) return text;
  try {
    return parseJson(text);
  } catch (error) {
    const reason = (error as Error).message.replace(EXCERPT, "") || "another value was expected";
    throw new Undecodable(`the body is not JSON: ${reason.slice(0, 200)}${stated}`);
  }
}

/** What V8 quotes of a body. Data is for the handler: the reason is logged. */
const EXCERPT = /(?:, )?(?:\.\.\.)?".*"(?:\.\.\.)? is not valid JSON$/s;

interface Stated {
  readonly how: Inflation | undefined;
  readonly charset: string | undefined;
}

const NOTHING_STATED: Stated = { how: undefined, charset: undefined };

/** Return the compression and the charset, as of Spring's `gzip, UTF-8` (`gzip:UTF-8` before 2.3). */
function readEncoding(contentEncoding: string): Stated {
  let how: Inflation | undefined;
  let charset: string | undefined;
  for (const part of contentEncoding.split(/[,:]/)) {
    const name = part.trim().toLowerCase();
    if (Object.hasOwn(INFLATIONS, name) && how === undefined) {
      how = INFLATIONS[name];
    } else if (!UNCHANGED.has(name)) {
      charset = name;
      if (charsetOf(name) === undefined) {
        const given = shown(contentEncoding.slice(0, 40));
        throw new Undecodable(`content-encoding ${given} is not one of zstd, gzip, deflate, charset`);
      }
    }
  }
  return { how, charset };
}

/** A name, and a value in quotes or without. */
const PARAMETER = /;\s*([^;=\s]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g;

/** Return a content type's parameter `charset`, if any. Throws Undecodable for an unknown one. */
function charsetIn(contentType: string | undefined): string | undefined {
  if (contentType === undefined || !contentType.includes(";")) return undefined;
  let charset = "";
  for (const [, name, quoted, plain] of contentType.matchAll(PARAMETER)) {
    if (name?.toLowerCase() !== "charset") continue;
    charset = (quoted ?? plain ?? "").trim().toLowerCase();
    break;
  }
  if (UNCHANGED.has(charset)) return undefined;
  if (charsetOf(charset) === undefined) throw new Undecodable(`the charset ${shown(charset.slice(0, 40))} is unknown`);
  return charset;
}

function readText(body: Buffer, charset: string | undefined, isText: boolean, stated: string): string {
  const { name, read } = charsetOf(charset ?? (isText ? "utf-8" : charsetOfJson(body))) as Charset;
  try {
    const text = read(body);
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  } catch (error) {
    const place = name === "utf-8" ? `byte ${wrongUtf8(body)}` : error instanceof RangeError ? error.message : "";
    throw new Undecodable(`the body is not ${name.toUpperCase()}${place && `: ${place}`}${stated}`);
  }
}

interface Charset {
  readonly name: string;
  readonly read: TextReader;
}

/** Only such text can have a number that is too large: 309 digits, or an exponent of three. */
const RISKY = /\d{309}|[eE]\+?0*\d{3}/;

/** As in the other SDKs' documentation, a whole number beyond 2^53 becomes the nearest that JavaScript has. */
function parseJson(text: string): unknown {
  return RISKY.test(text) ? JSON.parse(text, finite as Parameters<typeof JSON.parse>[1]) : JSON.parse(text);
}

function finite(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  throw new RangeError(`${context?.source?.slice(0, 40) ?? "a number"} exceeds the largest number`);
}
