/** One action under a model: its decisions, how long they take, and the end of the model's use. */

import { thrown } from "../checks.ts";
import type { Choice, Decider } from "./decider.ts";
import type { Guard } from "./guard.ts";
import { type Known, logError } from "./known.ts";

/** One decision of so many is timed. */
const TOGETHER = 50;
/** Of the processor's time, µs: a busy machine is no fault of the model. */
const SLOW_US = 1_000;
/** So many in a row: garbage collection, for one, is no fault of the model either. */
const SLOW_TIMES = 5;

/** A model's part for one action. `ended` is called with its problem, once, when it is not to be used any more. */
export class Supervised {
  readonly name: string;
  readonly guard: Guard;
  readonly decider: Decider;
  readonly #ended: (action: Supervised, problem: string) => void;
  #untimed = 0;
  #slow = 0;
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
      if (this.guard.problem !== undefined) this.#end(this.guard.problem);
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

  #end(problem: string): void {
    if (this.problem !== undefined) return;
    this.problem = problem;
    this.#ended(this, problem);
  }
}
