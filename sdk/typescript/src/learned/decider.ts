/** What a model knows of one action, and the decision for one message. */

import { rulesPriority } from "../routing.ts";
import type { Forest } from "./forest.ts";
import type { Usual } from "./guard.ts";
import { below, DEVICES, Draw, draw, hourOf, type Known, weekdayOf } from "./known.ts";
import { type Policy, priorityOf } from "./policy.ts";

/** `explored`: the model was asked to decide and left the message to the rules, to compare. */
export type Decided = "rules" | "learned" | "explored";

const REMEMBERED = 4_096;
const NAMES = ["its kind of payload", "its size", "its device", "the hour", "the weekday", "the priority given"];
const STATED = "the expiry stated";
/** Of the index: a smaller contribution is not named. */
const TRIFLE = 0.001;
/** Compression has to save a tenth. */
const LEAST_SAVING = Math.log(0.9);
const BYTES = 2;
const HOUR = 4;
const WEEKDAY = 5;

/** What a model knows of one action. */
export interface Learned {
  /** For each shape its mean logarithms of handling time and time left, in ms. */
  readonly shapes: ReadonlyMap<string, readonly [number, number]>;
  /** The same for any other shape. */
  readonly unknown: readonly [number, number];
  readonly time: Forest;
  readonly left: Forest;
  /** Predicts the logarithm of compressed to full size. */
  readonly saving: Forest | undefined;
  readonly policy: Policy;
  /** Mean absolute errors on held-out messages, of the logarithms. */
  readonly errors: { readonly time: number; readonly left: number };
  readonly usual: Usual;
}

/** What a model expects of a message: natural logarithms of ms, and of compressed to full size. */
export interface Prediction {
  readonly left: number;
  readonly time: number;
  readonly saving: number | undefined;
  /** What each feature's name adds to the policy's index, against the average message. */
  readonly byLeft: readonly number[];
  readonly byTime: readonly number[];
  /** False if compression is expected to save less than a tenth. */
  readonly compresses: boolean;
}

/** A model's answer for one message, or for all like it if they state no expiry. */
export interface Choice {
  readonly priority: number;
  /** The priority that the rules choose. */
  readonly rules: number;
  /** Whose priority the message gets: `rules` outside the share that the model decides. */
  readonly who: Decided;
  /** The share of messages like this of which that is true. */
  readonly propensity: number;
  readonly prediction: Prediction;
  readonly reason: string;
  /** The model's. */
  readonly version: string;
  /** The message, or one that the model and its guard can't tell from it. */
  readonly like: Known;
}

/** Messages that neither a tree nor the guard tells apart: a prediction, and answers to those without an expiry. */
interface Case {
  readonly prediction: Prediction;
  readonly answers: { [Who in Decided]?: Choice };
}

/** Decide the messages of one action. A share of them, `explore`, is left to the rules. */
export class Decider {
  readonly learned: Learned;
  readonly #explore: number;
  readonly #version: string;
  #share = 1;
  readonly #sizes: readonly number[];
  readonly #hours: readonly number[];
  readonly #weekdays: readonly number[];
  readonly #shapes: ReadonlySet<string>;
  readonly #cases = new Map<string, Case>();

  constructor(learned: Learned, explore: number, version = "") {
    this.learned = learned;
    this.#explore = explore;
    this.#version = version;
    this.#sizes = cutsOf(learned, BYTES, learned.usual.get("bytes")?.edges ?? []);
    this.#hours = cutsOf(learned, HOUR, []);
    this.#weekdays = cutsOf(learned, WEEKDAY, []);
    this.#shapes = new Set([...learned.shapes.keys(), ...(learned.usual.get("shape")?.names ?? [])]);
  }

  /** Leave all but a share of the messages to the rules. At first it is 1. */
  decideOnly(share: number): void {
    if (share === this.#share) return;
    this.#share = share;
    this.#cases.clear();
  }

  predict(known: Known): Prediction {
    return this.#case(known).prediction;
  }

  #case(known: Known): Case {
    const { at, shape, device, bytes, priority } = known;
    const parts = [below(this.#sizes, bytes), below(this.#hours, hourOf(at)), below(this.#weekdays, weekdayOf(at))];
    const key = `${this.#shapes.has(shape) ? shape : ""} ${device} ${parts.join()} ${priority}`;
    let found = this.#cases.get(key);
    if (found === undefined) {
      if (this.#cases.size >= REMEMBERED) this.#cases.clear();
      found = { prediction: this.#predict(known), answers: {} };
      this.#cases.set(key, found);
    }
    return found;
  }

  #predict(known: Known): Prediction {
    const { learned } = this;
    const { index } = learned.policy;
    const row = rowOf(learned, known);
    const [time, byTime] = learned.time.explain(row);
    const [left, byLeft] = learned.left.explain(row);
    const saving = learned.saving?.score(row);
    return {
      left,
      time,
      saving,
      byLeft: byName(index.left, byLeft),
      byTime: byName(index.time, byTime),
      compresses: saving === undefined || saving <= LEAST_SAVING,
    };
  }

  /** Return the priority. It is never lower than the rules' if that is 8 or more, or if an expiry is stated. */
  choose(known: Known): Choice {
    const found = this.#case(known);
    const who = this.#decides(known.messageId);
    if (known.expiresMs !== undefined) return this.#choice(known, found, who);
    found.answers[who] ??= this.#choice(known, found, who);
    return found.answers[who];
  }

  #decides(messageId: string): Decided {
    if (this.#share < 1 && draw(messageId, Draw.FOLLOWS) >= this.#share) return "rules";
    return draw(messageId, Draw.EXPLORES) < this.#explore ? "explored" : "learned";
  }

  #choice(known: Known, { prediction }: Case, who: Decided): Choice {
    const [expires, share] = [known.expiresMs, this.#share];
    const rules = rulesPriority(known.priority, expires);
    const usual = { rules, who, prediction, version: this.#version, like: known };
    if (who === "explored") {
      const reason = "left to the rules, for comparison";
      return { ...usual, priority: rules, propensity: share * this.#explore, reason };
    }
    const { policy } = this.learned;
    const left = expires === undefined ? prediction.left : Math.log(Math.max(expires, 1));
    let priority = priorityOf(policy, left, prediction.time);
    if (priority < rules && (rules >= 8 || expires !== undefined)) priority = rules;
    const stated = expires === undefined ? undefined : policy.index.left * (left - this.learned.left.mean);
    const propensity = who === "rules" ? 1 - share : share * (1 - this.#explore);
    return { ...usual, priority, propensity, reason: `learned: priority ${priority}, ${why(prediction, stated)}` };
  }
}

/** Return the numbers that the forests read. */
function rowOf(learned: Learned, known: Known): number[] {
  const [time, left] = learned.shapes.get(known.shape) ?? learned.unknown;
  const device = Math.max(DEVICES.indexOf(known.device as (typeof DEVICES)[number]), 0);
  return [time, left, known.bytes, device, hourOf(known.at), weekdayOf(known.at), known.priority ?? -1];
}

/** Return the values of a feature between which neither a tree nor the guard sees a difference. */
function cutsOf(learned: Learned, feature: number, edges: readonly number[]): number[] {
  const forests = [learned.time, learned.left, learned.saving].filter((forest) => forest !== undefined);
  const cuts = new Set([...edges, ...forests.flatMap((forest) => forest.thresholds(feature))]);
  return [...cuts].sort((one, other) => one - other);
}

/** Return the weighted contributions, with both numbers of the shape as one. */
function byName(weight: number, [time, left, ...others]: readonly number[]): number[] {
  return [weight * (time! + left!), ...others.map((part) => weight * part)];
}

/** Return the three largest contributions in words. */
function why({ byLeft, byTime }: Prediction, stated: number | undefined): string {
  const parts =
    stated === undefined
      ? NAMES.map((name, at): [number, string] => [byLeft[at]! + byTime[at]!, name])
      : [...NAMES.map((name, at): [number, string] => [byTime[at]!, name]), [stated, STATED] as [number, string]];
  const named = parts.sort(([one], [other]) => Math.abs(other) - Math.abs(one)).slice(0, 3);
  const words = named
    .filter(([part]) => Math.abs(part) > TRIFLE)
    .map(([part, name]) => `${part < 0 ? "earlier" : "later"} for ${name}`);
  return words.join(", ") || "like the average message";
}
