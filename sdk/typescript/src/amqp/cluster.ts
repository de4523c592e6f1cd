/** The nodes of a broker as one connection uses them: its own one, which of them answers first, and which is alive. */

import type { ConnectionOptions } from "node:tls";
import { AccessRefused, closed, NotConnected } from "../errors.ts";
import { notConnected } from "./failures.ts";
import { isAlive, type Node, placeOf } from "./node.ts";
import type { Wire } from "./wire.ts";

const ATTEMPT_MS = 10_000;
/** Until the next node is tried, too: a frozen one accepts a connection and says nothing. */
const STAGGER_MS = 1_000;
/** Until the node just lost is tried beside others: it may have lost them, and be the first to answer all the same. */
const LOST_MS = 5_000;
/** For the others, once one node has refused: it speaks for all of them, unless it has just started. */
const REFUSED_MS = 2_000;

/** Connect to a node, until it is given up. */
export type Dial = (node: Node, signal: AbortSignal) => Promise<Wire>;

export interface Reached {
  readonly node: Node;
  readonly wire: Wire;
}

interface Attempt {
  readonly node: Node;
  readonly end: AbortController;
  readonly outcome: Promise<{ readonly attempt: Attempt; readonly wire?: Wire; readonly error?: unknown }>;
}

const turns = new Map<number, number[]>();

/** Return a number below `count`: each once in random order, then again. So connections spread over the nodes. */
function nextTurn(count: number): number {
  const left = turns.get(count) ?? [];
  if (left.length === 0) left.push(...shuffled([...Array(count).keys()]));
  turns.set(count, left);
  return left.pop()!;
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  const result = [...items];
  for (let at = result.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [result[at], result[other]] = [result[other]!, result[at]!];
  }
  return result;
}

/** The nodes of a broker for one connection. `home` is the one to be on while it is up. */
export class Cluster {
  readonly home: Node;
  readonly #nodes: readonly Node[];
  readonly #tls: ConnectionOptions;

  constructor(nodes: readonly Node[], tls: ConnectionOptions) {
    this.#nodes = nodes;
    this.#tls = tls;
    this.home = nodes[nextTurn(nodes.length)]!;
  }

  get hasOthers(): boolean {
    return this.#nodes.length > 1;
  }

  isAlive(node: Node): Promise<boolean> {
    return isAlive(node, this.#tls);
  }

  /**
   * Return the first connection to a node, and the node. Begin at home, and leave the one just lost to the end.
   *
   * Rejects with NotConnected, or AccessRefused if a node refuses and no other lets in; all that were tried are named.
   */
  async connect(dial: Dial, lost: Node | undefined, given: AbortSignal): Promise<Reached> {
    const others = shuffled(this.#nodes.filter((node) => node !== this.home));
    const order = [this.home, ...others];
    const waiting = [...order.filter((node) => node !== lost), ...order.filter((node) => node === lost)];
    const trying = new Set<Attempt>();
    const failed: NotConnected[] = [];
    const began = performance.now();
    let deadline = began + ATTEMPT_MS;
    try {
      while ((waiting.length > 0 || trying.size > 0) && !given.aborted) {
        const onlyLost = waiting.length === 1 && waiting[0] === lost;
        if (waiting.length > 0 && !(onlyLost && trying.size > 0 && performance.now() < began + LOST_MS)) {
          trying.add(attempt(dial, waiting.shift()!, given));
        }
        const left = deadline - performance.now();
        if (left <= 0) break;
        const stagger = waiting.length === 1 && waiting[0] === lost ? began + LOST_MS - performance.now() : STAGGER_MS;
        const ended = await first(trying, waiting.length > 0 ? Math.min(left, Math.max(stagger, 0)) : left);
        if (ended === undefined) continue;
        trying.delete(ended.attempt);
        if (ended.wire !== undefined) return { node: ended.attempt.node, wire: ended.wire };
        const error = notConnected(ended.attempt.node, ended.error);
        failed.push(error);
        if (error instanceof AccessRefused) deadline = Math.min(deadline, performance.now() + REFUSED_MS);
      }
    } finally {
      for (const each of trying) abandon(each);
    }
    for (const node of [...[...trying].map((each) => each.node), ...waiting]) {
      failed.push(new NotConnected(`${placeOf(node)} did not answer in time`));
    }
    throw allOf(failed);
  }
}

function attempt(dial: Dial, node: Node, given: AbortSignal): Attempt {
  const end = new AbortController();
  const abort = () => end.abort();
  given.addEventListener("abort", abort);
  const dialled = dial(node, end.signal).finally(() => given.removeEventListener("abort", abort));
  const made: Attempt = {
    node,
    end,
    outcome: dialled.then(
      (wire) => ({ attempt: made, wire }),
      (error: unknown) => ({ attempt: made, error }),
    ),
  };
  return made;
}

/** End an attempt that is not needed, and whatever it may have reached. */
function abandon(attempt: Attempt): void {
  attempt.end.abort();
  void attempt.outcome.then((ended) => ended.wire?.end());
}

function first(trying: ReadonlySet<Attempt>, ms: number): Promise<Awaited<Attempt["outcome"]> | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), ms);
    void Promise.race([...trying].map((each) => each.outcome)).then((ended) => {
      clearTimeout(timer);
      resolve(ended);
    });
  });
}

/** Return the one error for several nodes', a refusal's before others'. */
function allOf(failed: readonly NotConnected[]): NotConnected {
  const sorted = [...failed].sort(
    (one, other) => Number(other instanceof AccessRefused) - Number(one instanceof AccessRefused),
  );
  const chosen = sorted[0] ?? closed();
  const problem = [...new Set(sorted.map((error) => error.problem))].join("; ") || chosen.problem;
  return worded(chosen, problem);
}

/** Return an error of the same kind, remedy and cause with another problem. */
export function worded(error: NotConnected, problem: string): NotConnected {
  const Kind = error instanceof AccessRefused ? AccessRefused : NotConnected;
  return new Kind(problem, { remedy: error.remedy, cause: error.cause });
}
