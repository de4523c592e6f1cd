/** The shared vectors: reading them, their tagged values, and what counts as equal. See vectors/README.md. */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = new URL("../../../../vectors/", import.meta.url);

/** JSON with tags, as it is in the file. */
export type Tagged = null | boolean | number | string | Tagged[] | { [name: string]: Tagged };
export type Fields = { [name: string]: Tagged };

/** One case: what is given, and what every SDK answers. */
export interface Vector {
  readonly name: string;
  readonly why: string;
  readonly given: Readonly<Record<string, Tagged>>;
  readonly expect: Fields;
}

/** Return all vectors, each with its file's name before its own. */
export function readVectors(): Vector[] {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
  return files.sort().flatMap((file) => {
    const vectors = JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")) as Vector[];
    return vectors.map((vector) => ({ ...vector, name: `${file.replace(".json", "")}: ${vector.name}` }));
  });
}

/** Return the path of a file that vectors name. */
export function givenPath(file: string): string {
  return fileURLToPath(new URL(`given/${file}`, FOLDER));
}

/** Return the content of a file that vectors name. */
export function readGiven(file: string): Buffer {
  return readFileSync(givenPath(file));
}

/** Return what JSON with tags stands for. Throws RangeError for an unknown tag. */
export function value(given: Tagged): unknown {
  if (Array.isArray(given)) return given.map(value);
  if (typeof given !== "object" || given === null) return given;
  const tagged = tagOf(given);
  if (tagged === undefined) return withOwn(Object.entries(given).map(([name, each]) => [name, value(each)]));
  const [tag, inner] = tagged;
  switch (tag) {
    case "$bytes":
      return Buffer.from(inner as string, "base64");
    case "$time":
      return new Date(inner as string);
    case "$integer":
      return BigInt(inner as string);
    case "$float":
      return Number(inner);
    case "$repeat": {
      const [text, times] = inner as [string, number];
      return text.repeat(times);
    }
    case "$join":
      return (inner as Tagged[]).map(value).join("");
    case "$file":
      return readGiven(inner as string);
  }
  throw new RangeError(`the tag ${tag} is unknown`);
}

function tagOf(given: Fields): [tag: string, inner: Tagged] | undefined {
  const [first, ...more] = Object.entries(given);
  return first?.[0].startsWith("$") && more.length === 0 ? first : undefined;
}

/** Return an object with these properties of its own, `__proto__` too. */
function withOwn(entries: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(entries);
}

/** Return true for decoded equality: numbers as doubles, objects in any order of their names. */
export function same(one: unknown, other: unknown): boolean {
  if (isNumber(one) && isNumber(other)) return Number(one) === Number(other) || Object.is(one, other);
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return one === other;
  if (one instanceof Date || other instanceof Date) {
    return one instanceof Date && other instanceof Date && one.getTime() === other.getTime();
  }
  if (one instanceof Uint8Array || other instanceof Uint8Array) {
    return one instanceof Uint8Array && other instanceof Uint8Array && Buffer.compare(one, other) === 0;
  }
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const [names, others] = [Object.keys(one), Object.keys(other)];
  const [left, right] = [one as Record<string, unknown>, other as Record<string, unknown>];
  return (
    names.length === others.length && names.every((name) => Object.hasOwn(right, name) && same(left[name], right[name]))
  );
}

function isNumber(value: unknown): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

/** Members of an expectation that are compared by the names listed in them only. */
const PARTS = new Set(["headers", "error", "route", "moved", "drifts"]);
const NEAR = 1e-9;

/** Throw unless an answer has all that is expected. What is not listed is not compared. */
export function check(expect: Fields, answer: object, path = ""): void {
  for (const [name, expected] of Object.entries(expect)) {
    const where = `${path}${name}`;
    const isThere = Object.hasOwn(answer, name);
    const actual = (answer as Record<string, unknown>)[name];
    if (isTag(expected, "$absent")) {
      if (isThere) throw new Error(`${where} is ${shown(actual)}, and should be absent`);
      continue;
    }
    if (!isThere) throw new Error(`${where} is missing`);
    if (PARTS.has(name) && isFields(expected) && isFields(actual)) check(expected, actual, `${where}.`);
    else if (!matches(expected, actual)) throw new Error(`${where}: ${shown(actual)} is not ${shown(expected)}`);
  }
}

function matches(expected: Tagged, actual: unknown): boolean {
  if (isTag(expected, "$words")) {
    return typeof actual === "string" && (expected.$words as string[]).every((word) => actual.includes(word));
  }
  if (isTag(expected, "$without")) {
    return typeof actual === "string" && !(expected.$without as string[]).some((word) => actual.includes(word));
  }
  if (isTag(expected, "$near")) {
    const near = expected.$near as number;
    return typeof actual === "number" && Math.abs(actual - near) <= NEAR * Math.max(1, Math.abs(near));
  }
  return same(value(expected), actual);
}

function isTag(expected: Tagged, tag: string): expected is Fields {
  return isFields(expected) && tagOf(expected)?.[0] === tag;
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? `${each}n` : each));
  return (text ?? "undefined").slice(0, 300);
}

/** Return copies of an expectation, each with one of its values changed, one added or one word more. */
export function mutations(expect: Tagged): Tagged[] {
  if (Array.isArray(expect)) {
    const changed = expect.flatMap((each, at) => mutations(each).map((other) => expect.with(at, other)));
    return [[...expect, "~"], ...changed];
  }
  switch (typeof expect) {
    case "boolean":
      return [!expect];
    case "number":
      return [Math.abs(expect) < 2 ** 52 ? expect + 1 : 2 * expect];
    case "string":
      return [`${expect}~`];
  }
  if (expect === null) return ["~"];
  const tagged = tagOf(expect);
  if (tagged !== undefined) return [otherTagged(...tagged)];
  const changed = Object.entries(expect).flatMap(([name, each]) =>
    mutations(each).map((other) => withOwn([...Object.entries(expect), [name, other]]) as Fields),
  );
  return [withOwn([...Object.entries(expect), ["~", "~"]]) as Fields, ...changed];
}

function otherTagged(tag: string, inner: Tagged): Tagged {
  switch (tag) {
    case "$bytes":
      return { [tag]: Buffer.concat([Buffer.from(inner as string, "base64"), Buffer.from("~")]).toString("base64") };
    case "$time":
      return { [tag]: new Date(new Date(inner as string).getTime() + 1000).toISOString() };
    case "$integer":
      return { [tag]: String(2n * BigInt(inner as string) + 1n) };
    case "$float":
      return { [tag]: "0.125" };
    case "$words": {
      const words = inner as string[];
      return { [tag]: words.with(-1, `${words.at(-1)}~`) };
    }
    case "$without":
      return { [tag]: [...(inner as string[]), ""] };
    case "$near":
      return { [tag]: (inner as number) + 1e-6 * Math.max(1, Math.abs(inner as number)) };
    case "$absent":
      return "~";
  }
  return { $join: [{ [tag]: inner }, "~"] };
}
