/** Waiting for promises and facts, never without an end. All times are milliseconds. */

/** The longest time of a timer, 24 days: Node ends a longer one at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** A fact that can be waited for. */
export class Flag {
  #set = false;
  readonly #waiting = new Set<() => void>();

  get isSet(): boolean {
    return this.#set;
  }

  set(): void {
    this.#set = true;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  clear(): void {
    this.#set = false;
  }

  wait(): Promise<void> {
    return this.#set ? Promise.resolve() : new Promise((resolve) => this.#waiting.add(resolve));
  }

  /** Call `wake` once the fact is there. Return a function that calls it off. */
  tell(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }
}

/** One piece of work after the other. */
export class Turn {
  #last: Promise<unknown> = Promise.resolve();

  take<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.#last.then(work);
    this.#last = run.catch(() => undefined);
    return run;
  }
}

/** The rejection of `within`. */
export class TooLate extends Error {
  override readonly name = "TooLate";
}

/**
 * Return what a promise resolves to. Rejects with TooLate after so many milliseconds, or once the wait is given up; the
 * promise goes on unseen.
 */
export function within<Result>(promise: Promise<Result>, ms: number, givenUp?: Flag): Promise<Result> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new TooLate("no answer in time"));
    const timer = setTimeout(late, Math.min(Math.max(ms, 0), MAX_TIMER_MS));
    const off = givenUp?.tell(late);
    if (givenUp?.isSet) late();
    promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      off?.();
    });
  });
}

/** Wait, or until one of the flags is set. */
export function pause(ms: number, ...flags: readonly Flag[]): Promise<void> {
  if (flags.some((flag) => flag.isSet)) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      for (const off of offs) off();
      resolve();
    };
    const timer = setTimeout(wake, Math.min(ms, MAX_TIMER_MS));
    const offs = flags.map((flag) => flag.tell(wake));
  });
}

/** Return a number between half of it and all of it: that spreads clients. */
export function spread(ms: number): number {
  return ms * (0.5 + Math.random() / 2);
}

/** Return seconds as text, to the millisecond. */
export function seconds(ms: number): string {
  return `${Math.round(Math.max(ms, 0)) / 1000} s`;
}
