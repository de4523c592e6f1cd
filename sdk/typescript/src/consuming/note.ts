/** What became of one attempt to handle a message. It has no value of the data. */

export interface Consumed {
  readonly module: string;
  readonly action: string;
  readonly messageId: string;
  /** From the broker's receive time (or the sender's, without one) to the start of the first attempt, ms. */
  readonly waitedMs: number | undefined;
  readonly handledMs: number | undefined;
  readonly outcome: "done" | "retried" | "dead";
}
