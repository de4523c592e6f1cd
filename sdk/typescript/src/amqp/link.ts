/** A supervised connection: replaced whenever it breaks or its node dies, never waited for without a deadline. */

import type { ConnectionOptions } from "node:tls";
import { AccessRefused, closed, NotConnected } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Cluster, type Reached, worded } from "./cluster.ts";
import { notConnected } from "./failures.ts";
import { dial, type Node, placeOf } from "./node.ts";
import { Flag, pause, seconds, spread, within } from "./waiting.ts";
import type { Wire } from "./wire.ts";

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
const LOOK_MS = 500;
/** Silence while an answer is due. Then the node is asked by a new connection whether it is alive. */
const SILENT_MS = 2_000;
/**
 * Without any answer that is due, from a node that is alive: it may have lost the others, and its queues with them.
 *
 * It doubles with every such node in a row. A queue whose leader is gone has a new one after 9 s at most.
 */
const STUCK_MS = 5_000;
/** Without an answer or a message. Then a user asks. */
const IDLE_MS = 5_000;
const MAX_STUCK_MS = 60_000;
/** Silence beyond the heartbeat, which the broker keeps also where it has nothing to say. */
const LATE_MS = 2_000;
const MAX_LOOK_MS = 30_000;
/** Before the first attempt to go back to the own node. It doubles with every loss of that node soon after a return. */
const AWAY_MS = 10_000;
const MAX_AWAY_MS = 300_000;
const MAX_ATTEMPT_PAUSE_MS = 60_000;
/** Time for a connection to the own node. */
const RETURN_MS = 5_000;
/** Time to close the connections that are no longer offered. */
const CLOSE_MS = 4_000;

/** Who uses a link's connection. */
export interface User {
  /** True while an answer of the broker is due at once. */
  readonly waiting: boolean;
  /** The number of answers so far. */
  readonly answers: number;
  /** Ask for an answer that a node without the others can't give, and be `waiting` until it comes. */
  ask(): Promise<void>;
  /** Note that the connection is broken, or that the client is closed. */
  lost(): void;
  /** Use the link's new connection, and resolve once nothing is left on the old one. */
  move(): Promise<void>;
}

/** What all connections of a client have in common. */
export interface LinkOptions {
  readonly nodes: readonly Node[];
  /** Names the nodes, without credentials. */
  readonly place: string;
  readonly name: string;
  readonly tls: ConnectionOptions;
  /** Seconds. */
  readonly heartbeat: number;
  readonly log: Logger;
  /** For tests: ms before the first attempt to go back. */
  readonly awayMs?: number | undefined;
}

/**
 * A supervised connection to one of the broker's nodes.
 *
 * It is replaced by a new one when it breaks, and its users are told. With several nodes it moves on at once, also from
 * a node that is frozen, and goes back to its own node once that is up: nothing is cut off then.
 */
export class Link {
  /** The node of the connection, or of the last one. */
  node: Node;
  readonly #options: LinkOptions;
  readonly #cluster: Cluster;
  readonly #users = new Set<User>();
  readonly #up = new Flag();
  readonly #closing = new Flag();
  readonly #given = new AbortController();
  readonly #suspected = new Flag();
  readonly #ending = new Set<Promise<unknown>>();
  readonly #logged = new Set<string>();
  readonly #onDead: ((node: Node) => void)[] = [];
  #wire: Wire | undefined;
  #keeper: Promise<void> | undefined;
  #error: NotConnected | undefined;
  #opened = false;
  #awayMs: number;
  #stuckMs = STUCK_MS;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#cluster = new Cluster(options.nodes, options.tls);
    this.#awayMs = options.awayMs ?? AWAY_MS;
    this.node = this.#cluster.home;
  }

  get connected(): boolean {
    return this.#wire !== undefined;
  }

  get closed(): boolean {
    return this.#closing.isSet;
  }

  get home(): Node {
    return this.#cluster.home;
  }

  add(user: User): void {
    this.#users.add(user);
  }

  remove(user: User): void {
    this.#users.delete(user);
  }

  /** Call `tell` with a node that was found dead. */
  onDead(tell: (node: Node) => void): void {
    this.#onDead.push(tell);
  }

  /** Ask soon whether a node is alive, if this link is on it: another one has found it dead. */
  suspect(node: Node): void {
    if (this.node === node) this.#suspected.set();
  }

  /** Connect, within so many ms. Rejects with AccessRefused at once, with NotConnected at the deadline. */
  async open(ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    this.#keeper = this.#keep();
    while (!this.connected) {
      await pause(Math.min(50, ms), this.#up);
      if (this.connected) break;
      if (this.closed || this.#error instanceof AccessRefused || performance.now() >= deadline) {
        const error = this.#error instanceof AccessRefused ? this.#error : this.missing(ms);
        await this.close();
        throw error;
      }
    }
    this.#opened = true;
  }

  /** Return the connection as soon as there is one. Rejects with NotConnected after so many ms, or once given up. */
  async wire(ms: number, ...givenUp: readonly Flag[]): Promise<Wire> {
    if (this.#wire === undefined) await pause(Math.max(ms, 0), this.#up, ...givenUp);
    if (this.#wire === undefined) throw this.missing(ms);
    return this.#wire;
  }

  /** Return the connection as soon as there is one, or undefined once the link is closed. */
  async next(): Promise<Wire | undefined> {
    while (this.#wire === undefined && !this.closed) await this.#up.wait();
    return this.#wire;
  }

  /** Return true if this is still the connection to use. */
  offers(wire: Wire): boolean {
    return this.#wire === wire;
  }

  /** Return the reason for the missing connection, after a wait of so many ms. */
  missing(ms: number): NotConnected {
    if (this.closed) return closed();
    if (this.#error !== undefined) return worded(this.#error, `${this.#error.problem}; waited ${seconds(ms)}`);
    return new NotConnected(`no connection to ${this.#options.place} within ${seconds(ms)}`);
  }

  /** Disconnect, and wake those waiting for a connection. */
  async close(): Promise<void> {
    this.#closing.set();
    this.#given.abort();
    await within(Promise.all([this.#keeper, ...this.#ending]), CLOSE_MS).catch(() => undefined);
    await within(Promise.all(this.#ending), CLOSE_MS).catch(() => undefined);
    this.#up.set();
    for (const user of [...this.#users]) user.lost();
  }

  async #keep(): Promise<void> {
    let lost: Node | undefined;
    for (;;) {
      let reached = await this.#reached(lost);
      while (reached !== undefined) {
        const { node, wire }: Reached = reached;
        reached = await this.#used(node, wire);
        if (reached !== undefined) this.#later(this.#retire(wire));
        else lost = node;
      }
      if (this.closed) return;
    }
  }

  /** Return a connection to a node, which is another than the one just lost if one of the others answers. */
  async #reached(lost: Node | undefined): Promise<Reached | undefined> {
    for (let ms = FIRST_PAUSE_MS; !this.closed; ms = Math.min(ms * 2, MAX_PAUSE_MS)) {
      try {
        const reached = await this.#cluster.connect(this.#dial, lost, this.#given.signal);
        if (!this.closed) return reached;
        this.#later(reached.wire.end());
      } catch (error) {
        if (!this.closed) this.#report(error as NotConnected);
      }
      await pause(spread(ms), this.#closing);
    }
    return undefined;
  }

  readonly #dial = (node: Node, signal: AbortSignal): Promise<Wire> =>
    dial(node, this.#options.name, this.#options.tls, this.#options.heartbeat, signal);

  /** Offer a connection until it is lost, or until there is one to the own node: return that. */
  async #used(node: Node, wire: Wire): Promise<Reached | undefined> {
    const began = performance.now();
    this.#offer(node, wire);
    const over = new Flag();
    const back = this.#back(node, over);
    let home: Wire | undefined;
    const outcome = await Promise.race([
      wire.ended.then((error) => notConnected(node, error)),
      this.#watch(node, wire, over),
      back.then((found) => {
        home = found;
        return undefined;
      }),
      this.#closing.wait().then(() => undefined),
    ]);
    over.set();
    if (home !== undefined && outcome === undefined && !this.closed) return { node: this.#cluster.home, wire: home };
    void back.then((found) => found?.end());
    if (!this.closed && outcome !== undefined) {
      this.#error = outcome;
      this.#warn(`connection lost, connecting again: ${outcome.problem}`);
    }
    if (node === this.#cluster.home && this.#options.awayMs === undefined) {
      const soon = performance.now() - began < MAX_AWAY_MS;
      this.#awayMs = soon ? Math.min(this.#awayMs * 2, MAX_AWAY_MS) : AWAY_MS;
    }
    this.#wire = undefined;
    this.#up.clear();
    for (const user of [...this.#users]) user.lost();
    this.#later(wire.end());
    return undefined;
  }

  #offer(node: Node, wire: Wire): void {
    if (this.#error !== undefined) this.#warn(`connected again to ${placeOf(node)}`);
    this.node = node;
    this.#wire = wire;
    this.#error = undefined;
    this.#logged.clear();
    this.#up.set();
  }

  /**
   * Return why to leave the node, once there is a reason. Without another node, heartbeats decide.
   *
   * It is dead if it is silent where it should not be, and does not answer a new connection. An alive one may be silent
   * while a queue has no leader, or while an alarm stops publishers; but if nothing is answered for long, it may have
   * lost the other nodes.
   */
  async #watch(node: Node, wire: Wire, over: Flag): Promise<NotConnected | undefined> {
    if (!this.#cluster.hasOthers) {
      await over.wait();
      return undefined;
    }
    const answers = { count: -1, since: performance.now(), heard: performance.now() };
    let asked = 0;
    let ms = LOOK_MS;
    while (!over.isSet) {
      const look = performance.now() + LOOK_MS;
      await pause(LOOK_MS, over, this.#suspected);
      if (over.isSet) break;
      const suspected = this.#suspected.isSet;
      this.#suspected.clear();
      const now = performance.now();
      if (now - look > LOOK_MS) {
        // This process was held up: what was answered meanwhile is not read yet.
        answers.since += now - look;
        answers.heard += now - look;
      }
      const stuck = this.#stuck(wire, answers, now);
      if (stuck !== undefined) {
        return new NotConnected(`${placeOf(node)} answers nothing of what was sent for ${seconds(stuck)}`);
      }
      const due = this.#waiting || suspected ? SILENT_MS : this.#options.heartbeat * 1000 + LATE_MS;
      if (now - wire.heard < due) {
        ms = LOOK_MS;
      } else if (suspected || now >= asked + ms) {
        const alive = await this.#cluster.isAlive(node);
        const silent = performance.now() - wire.heard;
        if (!alive && silent >= due && !over.isSet) {
          for (const tell of this.#onDead) tell(node);
          return new NotConnected(`${placeOf(node)} was silent for ${seconds(silent)}, and answers no new connection`);
        }
        asked = performance.now();
        ms = Math.min(ms * 2, MAX_LOOK_MS);
      }
    }
    return undefined;
  }

  get #waiting(): boolean {
    for (const user of this.#users) if (user.waiting) return true;
    return false;
  }

  /** Return for how long nothing was answered if that is too long. Ask where nothing is due for a while. */
  #stuck(wire: Wire, seen: { count: number; since: number; heard: number }, now: number): number | undefined {
    const waiting = this.#waiting;
    let answers = 0;
    for (const user of this.#users) answers += user.answers;
    if (answers > seen.count) {
      seen.heard = now;
      if (seen.count >= 0) this.#stuckMs = STUCK_MS;
    }
    if (this.#users.size > 0 && !waiting && now - seen.heard > IDLE_MS) {
      seen.heard = now;
      const users = [...this.#users];
      this.#later(users[Math.floor(Math.random() * users.length)]!.ask());
    }
    if (!waiting || answers !== seen.count || wire.blocked) {
      seen.count = answers;
      seen.since = now;
    }
    const stuck = now - seen.since;
    if (stuck <= this.#stuckMs) return undefined;
    this.#stuckMs = Math.min(this.#stuckMs * 2, MAX_STUCK_MS);
    return stuck;
  }

  /** Return a connection to the own node once there is one. It is not wanted while that node is in use. */
  async #back(node: Node, over: Flag): Promise<Wire | undefined> {
    if (node === this.#cluster.home) {
      await over.wait();
      return undefined;
    }
    for (let ms = this.#awayMs; ; ms = Math.min(ms * 2, MAX_ATTEMPT_PAUSE_MS)) {
      await pause(spread(ms), over);
      if (over.isSet) return undefined;
      const end = new AbortController();
      const dialling = this.#dial(this.#cluster.home, end.signal);
      try {
        const home = await within(dialling, RETURN_MS);
        if (!over.isSet) return home;
        await home.end();
      } catch {
        end.abort();
        void dialling.then((late) => late.end()).catch(() => undefined);
      }
    }
  }

  /** Close a connection once its users have left it, or it breaks, or the client is closed. */
  async #retire(wire: Wire): Promise<void> {
    await null; // the new connection is offered first
    this.#options.log.info(`${this.#options.name}: back on ${placeOf(this.#cluster.home)}`);
    const moves = Promise.allSettled([...this.#users].map((user) => user.move()));
    await Promise.race([moves, wire.ended, this.#closing.wait()]);
    await wire.end();
  }

  /** Do it beside what goes on: a frozen node would hold it up. */
  #later(work: Promise<unknown>): void {
    const settled = work.catch(() => undefined);
    this.#ending.add(settled);
    void settled.then(() => this.#ending.delete(settled));
  }

  #report(error: NotConnected): void {
    const refused = error instanceof AccessRefused && !this.#opened; // open() rejects with it, and does not try again
    if (!refused && !this.#logged.has(error.problem)) {
      this.#logged.add(error.problem); // a broker that starts alternates between several
      this.#warn(`${error.problem}; trying again`);
    }
    this.#error = error;
  }

  #warn(text: string): void {
    this.#options.log.warn(`${this.#options.name}: ${text}`);
  }
}
