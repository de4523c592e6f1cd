/** What ends a model's use: other messages than it learned from, wrong predictions, or more missed deadlines. */

import { below, type Known } from "./known.ts";

/** Messages over which drift is measured. */
const WINDOW = 1_000;
/** Of the population stability index, above what is ordinary for windows of this length. */
const DRIFT = 0.25;
/** Messages between two looks at the drift. */
const STEP = 250;
/** Over so many errors their mean is taken. */
const ERRORS = 200;
const WORSE = 2;
/** An error (logarithm) up to which a prediction is right: a smaller one may double. */
const RIGHT = 0.05;
/** Odds against chance at which the rules' share is believed to be better, at whatever moment one looks. */
const SURE = 200;
const FEWEST_MISSES = 20;
/** Of the two shares, before anything is known. */
const USUAL_DIFFERENCE = 0.05;
const LEAST = 1e-4;

/** The fields of a message that are watched, as a model's file names them. */
export const WATCHED = ["shape", "bytes", "device", "priority", "expires_ms"] as const;
export type Watched = (typeof WATCHED)[number];

/** How one feature of the training's messages was spread over bins, and how far a window of them drifts. */
export interface Spread {
  /** Upper ends of a number's bins; empty for names. */
  readonly edges: readonly number[];
  /** Names with a bin of their own; the last bin is for all others. */
  readonly names: readonly string[];
  readonly shares: readonly number[];
  /** The index that windows of ordinary messages stay within. */
  readonly ordinary: number;
}

/** The training's messages by feature. */
export type Usual = ReadonlyMap<Watched, Spread>;

/** Return the number of a spread's bins. Of numbers, the first is for none given. */
export function binsOf(spread: Spread): number {
  return spread.names.length > 0 ? spread.names.length + 1 : spread.edges.length + 2;
}

function binOf(spread: Spread, value: string | number | undefined): number {
  if (spread.names.length > 0) {
    const at = spread.names.indexOf(value as string);
    return at < 0 ? spread.names.length : at;
  }
  return value === undefined ? 0 : 1 + below(spread.edges, value as number);
}

/** Return the population stability index of counts by bin against the training's shares. */
function indexOf(spread: Spread, counts: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return spread.shares.reduce((sum, share, at) => {
    const [here, there] = [Math.max(counts[at]! / total, LEAST), Math.max(share, LEAST)];
    return sum + (here - there) * Math.log(here / there);
  }, 0);
}

function fieldOf(known: Known, name: Watched): string | number | undefined {
  return name === "expires_ms" ? known.expiresMs : known[name];
}

/** Watch one action's model. Once `problem` says something, the model is not to be used any more. */
export class Guard {
  readonly #usual: Usual;
  #step: Known[] = [];
  /** Of each feature, the counts by bin of the last steps. */
  readonly #counts: ReadonlyMap<Watched, number[][]>;
  readonly #times: Rolling;
  readonly #lefts: Rolling;
  readonly #trial = new Trial();
  /** The index of each feature at the last look. */
  readonly drifts: Partial<Record<Watched, number>> = {};
  problem: string | undefined;

  constructor(usual: Usual, errors: { readonly time: number; readonly left: number }) {
    this.#usual = usual;
    this.#counts = new Map([...usual.keys()].map((name) => [name, []]));
    this.#times = new Rolling("handling times", errors.time);
    this.#lefts = new Rolling("times left", errors.left);
  }

  /** Count a decided message, or one that no feature tells from it. */
  decided(known: Known): void {
    this.#step.push(known);
    if (this.#step.length < STEP) return;
    const step = this.#step;
    this.#step = [];
    this.#look(step);
  }

  #look(step: readonly Known[]): void {
    for (const [name, spread] of this.#usual) {
      const counts: number[] = new Array(binsOf(spread)).fill(0);
      for (const known of step) counts[binOf(spread, fieldOf(known, name))]!++;
      const window = this.#counts.get(name)!;
      window.push(counts);
      if (window.length > WINDOW / STEP) window.shift();
      if (window.length < WINDOW / STEP) continue;
      const sum = counts.map((_, at) => window.reduce((total, each) => total + each[at]!, 0));
      const drift = indexOf(spread, sum);
      this.drifts[name] = drift;
      if (drift - spread.ordinary > DRIFT) {
        const usual = `usual up to ${spread.ordinary.toFixed(2)}, at most ${DRIFT} more`;
        this.#end(`${name} is spread differently: stability index ${drift.toFixed(2)}, ${usual}`);
      }
    }
  }

  /** Count the error of a time left (logarithm), if the sender stated it. */
  stated(leftError: number | undefined): void {
    if (leftError !== undefined) this.#count(this.#lefts, leftError);
  }

  /** Count an outcome: the error of the handling time (logarithm), and whether a deadline was missed, if known. */
  became(timeError: number | undefined, missed: boolean | undefined, byRules: boolean): void {
    if (timeError !== undefined) this.#count(this.#times, timeError);
    if (missed === undefined) return;
    this.#trial.add(missed, byRules);
    if (this.#trial.odds > SURE) this.#end(`the model's share misses more deadlines than the rules': ${this.#trial}`);
  }

  #count(wrong: Rolling, error: number): void {
    wrong.add(Math.abs(error));
    if (!wrong.hasDoubled) return;
    const means = `${wrong.mean.toFixed(2)}, in training ${wrong.usual.toFixed(2)}`;
    this.#end(`the error of predicted ${wrong.kind} has doubled: ${means} (natural logarithm)`);
  }

  #end(problem: string): void {
    this.problem ??= problem;
  }
}

/** The mean of the last errors, against the usual one. */
class Rolling {
  readonly kind: string;
  readonly usual: number;
  readonly #errors: number[] = [];
  #total = 0;

  constructor(kind: string, usual: number) {
    this.kind = kind;
    this.usual = usual;
  }

  add(error: number): void {
    this.#errors.push(error);
    this.#total += error;
    if (this.#errors.length > ERRORS) this.#total -= this.#errors.shift()!;
  }

  get mean(): number {
    return this.#total / this.#errors.length;
  }

  get hasDoubled(): boolean {
    return this.#errors.length >= ERRORS && this.mean > WORSE * Math.max(this.usual, RIGHT);
  }
}

/** A sequential test of two shares of missed deadlines. One may look at its odds after every message. */
class Trial {
  /** The model's, and the rules'. */
  readonly #missed: [number, number] = [0, 0];
  readonly #seen: [number, number] = [0, 0];

  add(missed: boolean, byRules: boolean): void {
    const at = byRules ? 1 : 0;
    this.#seen[at]++;
    this.#missed[at] += missed ? 1 : 0;
  }

  /**
   * Odds that the model's share is worse, against chance: a mixture sequential probability ratio.
   *
   * Johari et al., "Always Valid Inference" (2015), for the difference of two shares.
   */
  get odds(): number {
    const [model, rules] = this.#seen;
    const misses = this.#missed[0] + this.#missed[1];
    if (Math.min(model, rules) < FEWEST_MISSES || misses < FEWEST_MISSES) return 1;
    const difference = this.#missed[0] / model - this.#missed[1] / rules;
    if (difference <= 0) return 1;
    const common = (misses + 1) / (model + rules + 2);
    const variance = common * (1 - common) * (1 / model + 1 / rules);
    const prior = USUAL_DIFFERENCE ** 2;
    const evidence = (difference ** 2 * prior) / (2 * variance * (variance + prior));
    return Math.sqrt(variance / (variance + prior)) * Math.exp(Math.min(evidence, 500));
  }

  toString(): string {
    const [[model, rules], [seen, seenRules]] = [this.#missed, this.#seen];
    return `${model} of ${seen} against ${rules} of ${seenRules}`;
  }
}
