/** What is known of a message when it is sent: all that a model may look at. */

import { crc32 } from "node:zlib";

/** In the order of their numbers. */
export const DEVICES = ["unknown", "web", "mobile"] as const;
/** The numbers that a forest reads: two for the shape, bytes, device, hour, weekday and priority. */
export const FEATURES = 7;

/** A message before it is sent. `shape` is a keyed hash of its keys and their types, never of a value. */
export interface Known {
  readonly module: string;
  readonly action: string;
  /** Seconds since 1970. */
  readonly at: number;
  readonly messageId: string;
  /** Size of the body before compression. */
  readonly bytes: number;
  readonly device: string;
  readonly shape: string;
  /** As given by the sender. */
  readonly priority: number | undefined;
  /** Time to live as given by the sender, ms. */
  readonly expiresMs: number | undefined;
}

const HOUR_S = 3_600;
const DAY_S = 86_400;

/** Return the hour of a time, 0 to 23, UTC. */
export function hourOf(at: number): number {
  return Math.floor((at % DAY_S) / HOUR_S);
}

/** Return the weekday of a time, 0 for Monday to 6. 1970 began on a Thursday. */
export function weekdayOf(at: number): number {
  return (Math.floor(at / DAY_S) + 3) % 7;
}

/** What a number is drawn for: its multiplier. */
export const Draw = {
  /** Whether a message is left to the rules to compare, as a share of those that a model decides. */
  EXPLORES: 0x9e3779b1,
  /** Whether a model decides it, as a share of all. */
  FOLLOWS: 0x85ebca77,
  /** Whether notes are taken of it. */
  NOTES: 0xc2b2ae3d,
} as const;

/** Return a number from 0 to below 1, always the same for a message and one of the multipliers. */
export function draw(messageId: string, multiplier: number): number {
  return (Math.imul(crc32(messageId), multiplier) >>> 0) / 2 ** 32;
}

/** Return the error of an expected time (a natural logarithm) in ms, of at least one; undefined if one is unknown. */
export function logError(ms: number | undefined, expected: number | undefined): number | undefined {
  return ms === undefined || expected === undefined ? undefined : Math.log(Math.max(ms, 1)) - expected;
}

/** Return the number of sorted values that are below a value. */
export function below(values: readonly number[], value: number): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
