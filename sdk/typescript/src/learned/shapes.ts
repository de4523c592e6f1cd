/** The shape of a payload: a keyed hash of its key names and their types. docs/routing.md has its form. */

import { createHash, createHmac } from "node:crypto";

const DEPTH = 3;
/** Keys of one object that are looked at. */
const WIDTH = 64;
/** Keys of a payload that are looked at. With more, its lowest level is not. */
const NAMES = 256;
const REMEMBERED = 1_000;
/** Characters of a structure that is remembered. */
const LONGEST = 10_000;

/** Payloads' shapes under one key. Without the key, nobody can check a guess of the names behind a shape. */
export class Shapes {
  readonly #key: Buffer;
  /** By structure, in the order of the data. */
  readonly #known = new Map<string, string>();

  constructor(key: string) {
    this.#key = createHash("sha256").update(key).digest();
  }

  /** Return the shape of a payload: 16 hexadecimal digits, the same for the same names and types in any order. */
  of(data: unknown): string {
    const structure = bounded(data);
    // In the order of the data: cheap, and most messages of an action have the same.
    const key = JSON.stringify(structure);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const digest = createHmac("sha256", this.#key).update(canonical(structure)).digest("hex");
    const shape = digest.slice(0, 16);
    if (key.length <= LONGEST) {
      if (this.#known.size >= REMEMBERED) this.#known.clear();
      this.#known.set(key, shape);
    }
    return shape;
  }
}

/** A value's type; for an object its members, for a list its first value's structure. */
type Structure = string | { readonly members: [string, Structure][] } | { readonly first: Structure };

class TooMany extends Error {}

/** Return the structure down to a level above which there are few names, in whatever order they are. */
function bounded(data: unknown): Structure {
  for (let depth = DEPTH; depth > 1; depth--) {
    try {
      return structureOf(data, depth, { names: NAMES });
    } catch (error) {
      if (!(error instanceof TooMany)) throw error;
    }
  }
  return structureOf(data, 1, { names: NAMES });
}

function structureOf(value: unknown, depth: number, left: { names: number }): Structure {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return typeof value;
    case "bigint":
      return "number";
    case "object":
      break;
    default:
      return typeof value;
  }
  if (value === null) return "null";
  if (Array.isArray(value)) {
    return value.length > 0 && depth > 0 ? { first: structureOf(value[0], depth - 1, left) } : "[]";
  }
  if (ArrayBuffer.isView(value)) return "bytes";
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") return structureOf(toJSON.call(value), depth, left);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  if (depth === 0 || entries.length > WIDTH) return "object";
  left.names -= entries.length;
  if (left.names < 0) throw new TooMany();
  return { members: entries.map(([name, each]) => [name, structureOf(each, depth - 1, left)]) };
}

/** Return a structure as ASCII, so that the members' order is the same in every language. */
function canonical(structure: Structure): string {
  if (typeof structure === "string") return structure;
  if ("first" in structure) return `[${canonical(structure.first)}]`;
  const members = structure.members.map(([name, inner]) => `${ascii(name)}:${canonical(inner)}`);
  return `{${members.sort().join(",")}}`;
}

/** Return a name as JSON with only ASCII. */
function ascii(name: string): string {
  return JSON.stringify(name).replace(/[\x7f-\uffff]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
