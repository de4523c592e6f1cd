/** One action under a model: its decisions, how long they take, and the end of the model's use. */

import { thrown } from "../checks.ts";
import type { Consumed } from "../consuming/note.ts";
import type { Choice, Decider } from "./decider.ts";
import type { Guard } from "./guard.ts";
import { type Known, logError } from "./known.ts";

/** One decision of so many is timed. */
const TOGETHER = 50;
/** Of the processor's time, µs: a busy machine is no fault of the model. */
const SLOW_US = 1_000;
/** So many in a row: garbage collection, for one, is no fault of the model either. */
const SLOW_TIMES = 5;
/** Decisions of one action that wait for their outcome. */
const REMEMBERED = 10_000;
/** After its expiry a message that this client has not handled is missed. */
const GRACE_MS = 5_000;
/** How often messages are looked for that have not been handled. */
const SWEEP_MS = 1_000;

/** A decision that waits for its outcome. */
interface Pending {
  /** The handling time expected: the logarithm of ms. */
  readonly time: number;
  readonly expiresMs: number | undefined;
  /** When the message is missed, ms since 1970. */
  readonly late: number;
  readonly byRules: boolean;
}

/** A model's part for one action. `ended` is called with its problem, once, when it is not to be used any more. */
export class Supervised {
  readonly name: string;
  readonly guard: Guard;
  readonly decider: Decider;
  readonly #ended: (action: Supervised, problem: string) => void;
  #untimed = 0;
  #slow = 0;
  /** True where this client's own consumers tell the outcomes. */
  remembers = false;
  readonly #pending = new Map<string, Pending>();
  #swept = 0;
  problem: string | undefined;

  constructor(name: string, decider: Decider, guard: Guard, ended: (action: Supervised, problem: string) => void) {
    this.name = name;
    this.decider = decider;
    this.guard = guard;
    this.#ended = ended;
  }

  /** Return the choice for a message; undefined if the model's use has ended. `timeout` is the router's, in seconds. */
  choose(known: Known, timeout: number): Choice | undefined {
    let choice: Choice | undefined;
    try {
      choice = this.#untimed > 0 ? this.decider.choose(known) : this.#timed(known, timeout);
      this.#untimed = this.#untimed === 0 ? TOGETHER - 1 : this.#untimed - 1;
      this.guard.decided(choice.like);
      if (known.expiresMs !== undefined) this.guard.stated(logError(known.expiresMs, choice.prediction.left));
      if (this.remembers) this.#remember(known, choice);
      this.#check();
    } catch (error) {
      // Whatever is wrong with a model, the message is sent.
      this.#end(`it failed (${thrown(error)})`);
    }
    return this.problem === undefined ? choice : undefined;
  }

  #timed(known: Known, timeout: number): Choice {
    const began = process.cpuUsage();
    const choice = this.decider.choose(known);
    const { user, system } = process.cpuUsage(began);
    const took = user + system;
    if (took > timeout * 1_000_000) {
      this.#end(
        `a decision took ${(took / 1_000_000).toFixed(3)} s of the processor, longer than the router's timeout`,
      );
    }
    this.#slow = took > SLOW_US ? this.#slow + 1 : 0;
    if (this.#slow === SLOW_TIMES) this.#end(`its decisions take ${(took / 1_000).toFixed(1)} ms of the processor`);
    return choice;
  }

  #remember(known: Known, choice: Choice): void {
    const { messageId, at, expiresMs } = known;
    const late = expiresMs === undefined ? Number.POSITIVE_INFINITY : at * 1000 + expiresMs + GRACE_MS;
    this.#pending.set(messageId, { time: choice.prediction.time, expiresMs, late, byRules: choice.who !== "learned" });
    if (this.#pending.size > REMEMBERED) this.#pending.delete(this.#pending.keys().next().value!);
  }

  /** Expect no outcome of a message: it was not sent. */
  forget(messageId: string): void {
    this.#pending.delete(messageId);
  }

  /** Learn what became of a message that this client's own consumer has handled. */
  became({ messageId, outcome, waitedMs, handledMs }: Consumed): void {
    const waiting = outcome === "retried" ? undefined : this.#pending.get(messageId);
    if (waiting !== undefined) {
      this.#pending.delete(messageId);
      const { expiresMs, time, byRules } = waiting;
      const missed = expiresMs === undefined || waitedMs === undefined ? undefined : waitedMs > expiresMs;
      this.guard.became(logError(handledMs, time), missed, byRules);
    }
    this.#sweep(Date.now());
    this.#check();
  }

  /** Count the messages that nobody has handled in time. */
  #sweep(now: number): void {
    if (now - this.#swept < SWEEP_MS) return;
    this.#swept = now;
    for (const [messageId, { late, byRules }] of this.#pending) {
      if (late > now) continue;
      this.#pending.delete(messageId);
      this.guard.became(undefined, true, byRules);
    }
  }

  #check(): void {
    if (this.guard.problem !== undefined) this.#end(this.guard.problem);
  }

  #end(problem: string): void {
    if (this.problem !== undefined) return;
    this.problem = problem;
    this.#pending.clear();
    this.#ended(this, problem);
  }
}
