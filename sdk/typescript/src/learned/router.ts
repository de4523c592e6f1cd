/** The router that learned: decide by a model, watch it, and go back to the rules when it is wrong. */

import { MAX_TIMER_MS } from "../amqp/waiting.ts";
import { checkedSeconds, shown, thrown, typeName } from "../checks.ts";
import type { Consumed } from "../consuming/note.ts";
import { encode } from "../encoding.ts";
import { ConfigurationError } from "../errors.ts";
import { type Logger, standardLogger } from "../log.ts";
import type { Outgoing } from "../message.ts";
import { CATALOG } from "../modules.ts";
import { type Decision, type Router, Rules } from "../routing.ts";
import { type Decisions, decisions, fellBack } from "../tracing.ts";
import { type Choice, type Decided, Decider } from "./decider.ts";
import { Guard } from "./guard.ts";
import type { Known } from "./known.ts";
import { ModelRefused, readModel } from "./model.ts";
import { Shapes } from "./shapes.ts";
import { type Fetched, MODES, type Mode, type ModelSource, sourceOf } from "./source.ts";
import { Supervised } from "./supervised.ts";

/** Time that `start` waits for a model. It is loaded in the background afterwards. */
const PATIENCE_MS = 2_000;
const KEY_VARIABLE = "KRYONIX_SHAPE_KEY";

/** How far a model is obeyed, and how often it is read. */
export interface LearnedRouterOptions {
  /** Default: `shadow`, or the registry's. */
  readonly mode?: Mode | undefined;
  /** Percent of the messages that a canary decides. Default: 10, or the registry's. */
  readonly canary?: number | undefined;
  /** Seconds until the model is read again. Default: 30. */
  readonly refresh?: number | undefined;
  /** The key of payloads' shapes. Default: KRYONIX_SHAPE_KEY, or the tenant's id. */
  readonly shapeKey?: string | undefined;
  /** Called with an action and a reason when that action goes back to the rules. */
  readonly onFallback?: ((action: string, reason: string) => void) | undefined;
}

/** What a router does now. */
export interface RouterStatus {
  readonly mode: Mode;
  /** Percent of the messages that a canary decides. */
  readonly canary: number;
  readonly source: string;
  /** The model's; undefined without one. */
  readonly version: string | undefined;
  /** Why the source's present model is not used, or could not be read again. */
  readonly unusable: string | undefined;
  /** Actions that went back to the rules, and why. */
  readonly problem: Readonly<Record<string, string>>;
  /** By action: who decided how many messages, `rules`, `explored` or `learned`. */
  readonly decisions: Readonly<Record<string, Decisions>>;
  /** By action: the stability index of each feature at the last look. */
  readonly drifts: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/**
 * Route by a model that `kryonix router train` has made, as far as its mode says.
 *
 * `model` is a path, or an address `file://`, `https://` or `postgresql://` (the registry's; it gives the mode and the
 * canary's share too). Another version takes over at once. Whatever is wrong with a model, messages are sent by the
 * rules, and the log says so once. Throws ConfigurationError.
 */
export class LearnedRouter implements Router {
  readonly #source: ModelSource;
  readonly #options: LearnedRouterOptions;
  readonly #refreshMs: number;
  readonly #decisions = new Map<string, Partial<Record<Decided, number>>>();
  #log: Logger = standardLogger;
  #timeout = 1;
  /** Whose messages it decides; empty until its first client. */
  #tenant = "";
  #shapes = new Shapes("kryonix tenant ");
  #mode: Mode;
  #canary: number;
  #actions = new Map<string, Supervised>();
  /** Actions whose outcomes this process's consumers tell. */
  readonly #consumed = new Set<string>();
  #content: Buffer | undefined;
  #version: string | undefined;
  #unusable: string | undefined;
  #users = 0;
  #loading: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(model: string, options: LearnedRouterOptions = {}) {
    const { mode = "shadow", canary = 10, refresh = 30 } = options;
    if (typeof model !== "string") {
      throw new ConfigurationError(`model: ${typeName(model)} is not text`, { remedy: "Pass a path or an address" });
    }
    if (!MODES.includes(mode)) {
      const problem = `mode: ${shown(mode)} is not one of ${MODES.join(", ")}`;
      throw new ConfigurationError(problem, { remedy: "Begin with shadow" });
    }
    if (typeof canary !== "number" || !(canary >= 0 && canary <= 100)) {
      const problem = `canary: ${shown(canary)} is not a share of the messages`;
      throw new ConfigurationError(problem, { remedy: "Pass percent, from 0 to 100" });
    }
    this.#refreshMs = checkedSeconds("refresh", refresh) * 1000;
    this.#source = sourceOf(model);
    this.#options = options;
    this.#mode = mode;
    this.#canary = canary;
  }

  /** Decide as the client does, for a router of your own that asks this one. */
  decide(message: Outgoing): Decision {
    const { messageId = "" } = message;
    const [body] = encode(message.data, messageId);
    return this.route(message, this.choose(message, messageId, body.length), new Rules(CATALOG));
  }

  /** @internal Return the choice for a message, or undefined if the rules decide. It never throws, and never waits. */
  choose(message: Outgoing, messageId: string, bytes: number): Choice | undefined {
    const name = `${message.module}.${message.action}`;
    const action = this.#actions.get(name);
    const isAsked = action !== undefined && action.problem === undefined && this.#mode !== "off";
    const known = isAsked ? this.#known(message, messageId, bytes) : undefined;
    const choice = known && action!.choose(known, this.#timeout);
    this.#count(name, choice?.who ?? "rules");
    return choice;
  }

  /** Return what a model may look at; undefined if the data can't be looked at. */
  #known(message: Outgoing, messageId: string, bytes: number): Known | undefined {
    const { module, action, device = "unknown", priority = 5, expires } = message;
    try {
      const shape = this.#shapes.of(message.data);
      const expiresMs = expires === undefined ? undefined : expires * 1000;
      return { module, action, at: Date.now() / 1000, messageId, bytes, device, shape, priority, expiresMs };
    } catch {
      return undefined; // the caller's own objects may throw anything; the rules decide
    }
  }

  #count(name: string, who: Decided): void {
    let counts = this.#decisions.get(name);
    if (counts === undefined) {
      counts = {};
      this.#decisions.set(name, counts);
    }
    counts[who] = (counts[who] ?? 0) + 1;
  }

  /** @internal Return the route of a message by a choice, or by the rules without one. */
  route(message: Outgoing, choice: Choice | undefined, rules: Rules): Decision {
    if (choice === undefined || choice.who === "rules") return rules.decide(message);
    return rules.place(message, choice.priority, choice.reason);
  }

  /** @internal Expect no outcome of a message: it was not sent. */
  forget(message: Outgoing, messageId: string): void {
    this.#actions.get(`${message.module}.${message.action}`)?.forget(messageId);
  }

  /** @internal Expect outcomes of an action from this client's own consumers. */
  consumes(module: string, action: string): void {
    const name = `${module}.${action}`;
    this.#consumed.add(name);
    const supervised = this.#actions.get(name);
    if (supervised !== undefined) supervised.remembers = true;
  }

  /** @internal Learn what became of a message that this client's own consumer has handled. It never throws. */
  became(note: Consumed): void {
    const action = this.#actions.get(`${note.module}.${note.action}`);
    if (action !== undefined && action.problem === undefined) action.became(note);
  }

  /** Return what the router does now. */
  status(): RouterStatus {
    const actions = [...this.#actions.values()];
    return {
      mode: this.#mode,
      canary: this.#canary,
      source: this.#source.shown,
      version: this.#version,
      unusable: this.#unusable,
      problem: Object.fromEntries(
        actions.filter((each) => each.problem !== undefined).map((each) => [each.name, each.problem!]),
      ),
      decisions: Object.fromEntries([...this.#decisions].map(([name, counts]) => [name, { ...counts }])),
      drifts: Object.fromEntries(actions.map((each) => [each.name, { ...each.guard.drifts }])),
    };
  }

  /** @internal Decide the messages of this tenant only: its outcomes are in the model. Throws ConfigurationError. */
  serve(tenant: string, log: Logger): void {
    if (this.#tenant !== "" && this.#tenant !== tenant) {
      const problem = `router: it decides the messages of the tenant ${this.#tenant}, and can't decide those of ${tenant}`;
      throw new ConfigurationError(problem, { remedy: "Make a LearnedRouter for each tenant" });
    }
    this.#tenant = tenant;
    this.#log = log;
    this.#shapes = new Shapes(this.#options.shapeKey || process.env[KEY_VARIABLE] || `kryonix tenant ${tenant}`);
  }

  /** @internal Load the model, for one more client. Wait for it `timeout` seconds at most, and not long. */
  async start(timeout: number, routerTimeout: number): Promise<void> {
    this.#timeout = routerTimeout;
    this.#users++;
    if (this.#users === 1) {
      decisions.push(this.#decisions as ReadonlyMap<string, Decisions>);
      this.#loading = this.#load();
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, Math.min(timeout * 1000, PATIENCE_MS));
    });
    await Promise.race([this.#loading, late]);
    clearTimeout(timer);
  }

  async #load(): Promise<void> {
    await this.refresh();
    if (this.#users === 0) return;
    this.#timer = setTimeout(() => void this.#load(), Math.min(this.#refreshMs, MAX_TIMER_MS)).unref();
  }

  /** @internal Load no more models, once the last client is closed. */
  async close(): Promise<void> {
    this.#users--;
    if (this.#users > 0) return;
    clearTimeout(this.#timer);
    const at = decisions.indexOf(this.#decisions as ReadonlyMap<string, Decisions>);
    if (at >= 0) decisions.splice(at, 1);
    await this.#source.close();
  }

  /** Look for another model or mode now. It never rejects. */
  async refresh(): Promise<void> {
    try {
      this.#take(await this.#source.fetch(this.#tenant));
      this.#unusable = undefined;
    } catch (error) {
      if (error instanceof ModelRefused) {
        this.#forget();
        this.#say(`${error.message}; the rules decide`);
        return;
      }
      const meanwhile = this.#version === undefined ? "the rules decide" : `model ${this.#version} stays`;
      this.#say(`${this.#source.shown}: cannot be read (${reasonOf(error)}); ${meanwhile}`);
    }
  }

  #forget(): void {
    this.#actions = new Map();
    this.#content = this.#version = undefined;
  }

  /** Use a model and a mode. The same model keeps what is known of it. Throws ModelRefused. */
  #take({ content, mode, canary }: Fetched): void {
    if (content === undefined) {
      this.#forget(); // only together with the mode off
    } else if (this.#content === undefined || !content.equals(this.#content)) {
      const model = readModel(content, this.#source.shown);
      if (model.version !== this.#version) {
        const actions = [...model.actions].map(([name, learned]) => {
          const decider = new Decider(learned, model.explore, model.version);
          return [name, new Supervised(name, decider, new Guard(learned.usual, learned.errors), this.#ended)] as const;
        });
        this.#actions = new Map(actions);
        for (const [name, action] of actions) action.remembers = this.#consumed.has(name);
        this.#version = model.version;
        this.#log.info(`routing model ${model.version} for ${actions.length} actions from ${this.#source.shown}`);
      }
      this.#content = content;
    }
    this.#mode = this.#options.mode ?? mode ?? "shadow";
    this.#canary = this.#options.canary ?? canary ?? 10;
    const share = { on: 1, canary: this.#canary / 100, shadow: 0, off: 0 }[this.#mode];
    for (const action of this.#actions.values()) action.decider.decideOnly(share);
  }

  /** Say that the rules decide an action until another version of the model is loaded. */
  readonly #ended = (action: Supervised, problem: string): void => {
    this.#log.warn(`${action.name}: back to the rules from model ${this.#version}: ${problem}`);
    fellBack(action.name);
    try {
      this.#options.onFallback?.(action.name, problem);
    } catch (error) {
      this.#log.error("onFallback failed", error);
    }
  };

  #say(problem: string): void {
    if (problem !== this.#unusable) this.#log.warn(`routing model: ${problem}`);
    this.#unusable = problem;
  }
}

/** Return an error in words. Those of an address may quote parts of it: only the code, or our own words, are shown. */
function reasonOf(error: unknown): string {
  const { cause, code } = error as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException };
  if (cause?.code !== undefined || code !== undefined) return String(cause?.code ?? code);
  return error instanceof Error && error.message.startsWith("it answers")
    ? error.message
    : thrown(error).split(":")[0]!;
}
