/** From predictions to one of a queue's priorities. */

import { below } from "./known.ts";

/** The most urgent that a model gives, the same as a sender can ask for. */
const HIGHEST = 10;
/** Thresholds between HIGHEST and the lowest ordinary priority, 2. */
export const LEVELS = 8;
const LAST = 1;

/** A weighted sum of the logarithms of the time left and of the handling time, both in ms. */
export interface Index {
  readonly left: number;
  readonly time: number;
}

/** Cut an index into priorities: 10 up to the first level, 2 above the last level, and 1 for what goes last. */
export interface Policy {
  readonly index: Index;
  readonly levels: readonly number[];
  /** What may wait for everything else: messages whose index is above a value. */
  readonly last: { readonly index: Index; readonly above: number } | undefined;
}

/** Return the priority for a time left and a handling time (logarithms of ms). */
export function priorityOf({ index, levels, last }: Policy, left: number, time: number): number {
  if (last !== undefined && of(last.index, left, time) > last.above) return LAST;
  return HIGHEST - below(levels, of(index, left, time));
}

function of(index: Index, left: number, time: number): number {
  return index.left * left + index.time * time;
}
