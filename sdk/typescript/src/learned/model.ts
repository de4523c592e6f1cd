/** A model and its file: JSON of plain numbers that says when it has been altered. */

import { createHash } from "node:crypto";
import { ConfigurationError } from "../errors.ts";
import type { Learned } from "./decider.ts";
import { Forest, type Tree } from "./forest.ts";
import { binsOf, type Spread, type Usual, WATCHED, type Watched } from "./guard.ts";
import { FEATURES } from "./known.ts";
import { type Index, LEVELS, type Policy } from "./policy.ts";

const FORMAT = 1;
/** Of a model's file. */
export const MAX_MODEL_BYTES = 1_000_000;
const HEAD = /^\{"hash":"([0-9a-f]{64})",/;
const HEAD_LENGTH = '{"hash":"",'.length + 64;
/** A number of a model is small enough to be added and multiplied. */
const LARGEST = 1e30;
const LARGEST_ERROR = 100;
const REMEDY = "Use a file that `kryonix router train` has written";

/** A model's file that can't be used. */
export class ModelRefused extends ConfigurationError {}

/** What was learned, by action (`crm.leads.create`). */
export interface RoutingModel {
  /** The share of messages that stay where the rules put them. */
  readonly explore: number;
  readonly actions: ReadonlyMap<string, Learned>;
  /** The beginning of the file's hash. */
  readonly version: string;
}

/** Return the model of a file's content. `source` names it in errors. Throws ModelRefused. */
export function readModel(content: Buffer, source: string): RoutingModel {
  const refuse = (problem: string, remedy = REMEDY): never => {
    throw new ModelRefused(`${source}: ${problem}`, { remedy });
  };
  if (content.length > MAX_MODEL_BYTES) {
    refuse(`it is larger than a model may be, ${MAX_MODEL_BYTES.toLocaleString("en")} bytes`);
  }
  const hash =
    HEAD.exec(content.toString("latin1", 0, HEAD_LENGTH))?.[1] ??
    refuse("not a routing model: its content does not begin with a hash");
  if (createHash("sha256").update(content.subarray(HEAD_LENGTH)).digest("hex") !== hash) {
    refuse("the model has been cut off or altered since it was made: its hash differs");
  }
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(content.toString());
  } catch (error) {
    return refuse(`not JSON: ${(error as Error).message}`);
  }
  if (fields.kind !== "kryonix routing model") refuse(`not a routing model, but '${String(fields.kind).slice(0, 40)}'`);
  if (fields.format !== FORMAT) {
    const found = String(fields.format).slice(0, 20);
    const remedy = "Use the version of @kryonix/sdk that reads it, or train a new one";
    refuse(`the model has format ${found}, this version reads ${FORMAT}`, remedy);
  }
  try {
    const explore = number(fields, "explore");
    if (explore < 0 || explore >= 1) throw new RangeError(`explore ${explore} is not 0 to below 1`);
    const actions = Object.entries(part(fields, "actions")).map(([name, each]) => {
      return [name, within(name, () => learned(each))] as const;
    });
    return { explore, actions: new Map(actions), version: hash.slice(0, 12) };
  } catch (error) {
    return refuse(`not a valid model: ${(error as Error).message}`);
  }
}

/** Name an action, or a field, in an error about it. */
function within<Result>(name: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    throw new RangeError(`${name}.${(error as Error).message}`);
  }
}

type Fields = Record<string, unknown>;

function part(fields: unknown, name: string): Fields {
  const value = (fields as Fields | null | undefined)?.[name];
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new RangeError(`${name}: there is no such object`);
}

function number(fields: unknown, name: string, most = LARGEST, least = -LARGEST): number {
  const value = (fields as Fields | null | undefined)?.[name];
  if (typeof value === "number" && value >= least && value <= most) return value;
  throw new RangeError(`${name}: it is not a number from ${least} to ${most}`);
}

function numbers(fields: unknown, name: string): number[] {
  const value = (fields as Fields)[name];
  const right = Array.isArray(value) && value.every((each) => typeof each === "number" && Math.abs(each) <= LARGEST);
  if (right) return value;
  throw new RangeError(`${name}: it is not a list of numbers`);
}

function pair(fields: unknown, name: string): [number, number] {
  const found = numbers(fields, name);
  if (found.length === 2) return found as [number, number];
  throw new RangeError(`${name}: it is not two numbers`);
}

function learned(value: unknown): Learned {
  const shapes = part({ action: value }, "action") && part(value, "shapes");
  const { saving } = value as Fields;
  return {
    shapes: new Map(Object.keys(shapes).map((shape) => [shape, pair(shapes, shape)])),
    unknown: pair(value, "unknown"),
    time: forest(value, "time"),
    left: forest(value, "left"),
    saving: saving === undefined || saving === null ? undefined : forest(value, "saving"),
    policy: policy(part(value, "policy")),
    errors: {
      time: number(part(value, "errors"), "time", LARGEST_ERROR, 0),
      left: number(part(value, "errors"), "left", LARGEST_ERROR, 0),
    },
    usual: usual(part(part(value, "usual"), "spreads")),
  };
}

const PARTS = ["features", "thresholds", "lefts", "rights", "means", "leaves"] as const;

function forest(value: unknown, name: string): Forest {
  const { trees } = part(value, name);
  if (!Array.isArray(trees)) throw new RangeError(`${name}.trees: there is no such list`);
  return within(name, () => new Forest(trees.map(tree), FEATURES));
}

function tree(value: unknown, at: number): Tree {
  const found = Object.fromEntries(PARTS.map((name) => [name, within(`tree ${at}`, () => numbers(value, name))]));
  return found as Record<(typeof PARTS)[number], number[]>;
}

function policy(fields: Fields): Policy {
  const levels = numbers(fields, "levels");
  if (levels.length !== LEVELS || levels.some((level, at) => level < (levels[at - 1] ?? level))) {
    throw new RangeError(`policy: levels are not ${LEVELS} ascending numbers`);
  }
  const last = fields.last === undefined || fields.last === null ? undefined : part(fields, "last");
  return {
    index: index(part(fields, "index")),
    levels,
    last: last && { index: index(part(last, "index")), above: number(last, "above") },
  };
}

function index(fields: Fields): Index {
  return { left: number(fields, "left"), time: number(fields, "time") };
}

function usual(spreads: Fields): Usual {
  return new Map(
    Object.keys(spreads).map((name) => {
      if (!WATCHED.includes(name as Watched)) throw new RangeError(`usual: ${name}: no feature that is watched`);
      return [name as Watched, within(`usual.${name}`, () => spread(name, part(spreads, name)))];
    }),
  );
}

function spread(name: string, fields: Fields): Spread {
  const { names } = fields;
  if (!Array.isArray(names) || !names.every((each) => typeof each === "string"))
    throw new RangeError("names: no texts");
  const found = {
    edges: numbers(fields, "edges"),
    names,
    shares: numbers(fields, "shares"),
    ordinary: number(fields, "ordinary"),
  };
  if (found.shares.length !== binsOf(found)) {
    throw new RangeError(`${found.shares.length} shares for ${binsOf(found)} bins`);
  }
  if ((name === "shape" || name === "device") && names.length === 0)
    throw new RangeError("it is text, and has no names");
  return found;
}
