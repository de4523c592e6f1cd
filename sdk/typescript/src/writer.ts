/** Write records in the background, in batches, from a bounded queue. It never delays what is recorded. */

import { thrown } from "./checks.ts";
import type { Logger } from "./log.ts";

const CAPACITY = 10_000;
const BATCH = 500;
const GOODBYE_MS = 5_000;
const PAUSE_MS = 100;

/** A destination for records. */
export interface Sink<Entry> {
  write(records: readonly Entry[]): Promise<void>;
  close(): Promise<void>;
}

/** A bounded queue in front of a sink. `what` names the records in the log. */
export class Writer<Entry> {
  readonly #sink: Sink<Entry>;
  readonly #what: string;
  readonly #log: Logger;
  readonly #gatherMs: number;
  readonly #capacity: number;
  #records: Entry[] = [];
  #ending = false;
  #writing: Promise<void> | undefined;
  /** Number of records lost: the queue was full, or the sink failed. */
  dropped = 0;

  /** `gatherMs` is the time that a batch may wait for more records. */
  constructor(sink: Sink<Entry>, what: string, log: Logger, gatherMs = 0, capacity = CAPACITY) {
    this.#sink = sink;
    this.#what = what;
    this.#log = log;
    this.#gatherMs = gatherMs;
    this.#capacity = capacity;
  }

  /** Take a record without waiting. */
  note(record: Entry): void {
    if (this.#ending || this.#records.length >= this.#capacity) {
      this.#drop(1, this.#ending ? "the client was closed" : "the sink is too slow");
      return;
    }
    this.#records.push(record);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  #drop(count: number, why: string): void {
    if (this.dropped === 0) this.#log.warn(`${this.#what} are dropped: ${why}`);
    this.dropped += count;
  }

  /** Write until nothing waits. It never rejects. */
  async #write(): Promise<void> {
    // The records of this turn of the event loop go together.
    await (this.#gatherMs > 0 ? pause(this.#gatherMs) : Promise.resolve());
    while (this.#records.length > 0) {
      const batch = this.#records.slice(0, BATCH);
      try {
        await this.#sink.write(batch);
      } catch (error) {
        this.#drop(batch.length, thrown(error));
        await pause(PAUSE_MS);
      }
      // Not earlier: close() counts the rest as lost.
      this.#records.splice(0, batch.length);
    }
  }

  /** Write the remaining records, within a few seconds. */
  async close(): Promise<void> {
    this.#ending = true;
    if (this.#writing !== undefined) await Promise.race([this.#writing, pause(GOODBYE_MS)]);
    if (this.#records.length > 0) {
      this.#drop(this.#records.length, "the client was closed");
      this.#records = [];
    }
    try {
      await Promise.race([this.#sink.close(), pause(GOODBYE_MS)]);
    } catch (error) {
      this.#log.error(`cannot close the sink of ${this.#what}`, error);
    }
  }
}

/** Wait without keeping the process alive. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
