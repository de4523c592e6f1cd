/** Choose the exchange and the priority of a message. */

import type { Catalog, Module } from "./catalog.ts";
import { shown, thrown } from "./checks.ts";
import type { Logger } from "./log.ts";
import type { Outgoing } from "./message.ts";
import { type Names, priorityName } from "./naming.ts";

/** Which of a tenant's exchanges a message is published to. */
export type Exchange = "main" | "mobile" | "critical";

/** Milliseconds. A message with a shorter time to live is urgent. */
export const URGENT_MS = 30_000;
export const USUAL_PRIORITY = 5;

const RAISED = `; priority 8 because it expires within ${URGENT_MS / 1000} s`;

/** The route of a message, and the reason in words. */
export interface Decision {
  readonly exchange: Exchange;
  readonly priority: number;
  readonly mobileOptimized: boolean;
  readonly reason: string;
}

/** Decide the route of each message. Default: `Rules`; pass your own classifier instead. */
export interface Router {
  decide(message: Outgoing): Decision | Promise<Decision>;
}

/** Return the priority that the rules choose: as given, but 8 for a message with less than half a minute to live. */
export function rulesPriority(priority: number | undefined, expiresMs: number | undefined): number {
  const given = priority ?? USUAL_PRIORITY;
  return given < 8 && expiresMs !== undefined && expiresMs <= URGENT_MS ? 8 : given;
}

/** The default router: rules on module, device, priority and time to live. */
export class Rules implements Router {
  readonly #catalog: Catalog;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  decide(message: Outgoing): Decision {
    const asked = message.priority ?? USUAL_PRIORITY;
    const priority = rulesPriority(asked, message.expires === undefined ? undefined : message.expires * 1000);
    return this.place(message, priority, undefined, priority === asked ? "" : RAISED);
  }

  /** Return the route of a message that gets this priority, and why: by default why it gets its exchange. */
  place(message: Outgoing, priority: number, why?: string, further = ""): Decision {
    const module = this.#catalog.modules[message.module]!;
    const mobile = module.mobilePriority && message.device === "mobile";
    const [exchange, reason] = exchangeOf(module, message, priority, mobile);
    return { exchange, priority, mobileOptimized: mobile, reason: why ?? `${reason}${further}` };
  }

  /** Return what is wrong with a decision: an exchange without a binding to the module would lose the message. */
  problemOf(message: Outgoing, decision: Decision): string | undefined {
    const module = this.#catalog.modules[message.module]!;
    const { exchange, priority, mobileOptimized, reason } = decision;
    const bound =
      exchange === "main" ||
      (exchange === "mobile" && module.mobilePriority) ||
      (exchange === "critical" && module.businessCritical);
    if (!bound) return `${message.module} is not bound to the exchange ${shown(exchange)}`;
    if (!Number.isInteger(priority) || priority < 0 || priority > 10)
      return `priority ${shown(priority)} is not 0 to 10`;
    if (typeof mobileOptimized !== "boolean" || typeof reason !== "string") {
      return "mobileOptimized is not a boolean, or the reason not text";
    }
    return undefined;
  }
}

function exchangeOf(module: Module, message: Outgoing, priority: number, mobile: boolean): [Exchange, string] {
  const lanes = module.priorityLanes[message.action];
  const lane = priorityName(priority);
  if (lanes?.includes(lane)) {
    // Lanes are bound to the main exchange only.
    return ["main", `main: ${message.module}.${message.action} has a lane for ${lane} priority`];
  }
  if (module.businessCritical && priority >= 8) {
    return ["critical", `critical: ${message.module} is business-critical and the priority is ${priority}`];
  }
  if (mobile) return ["mobile", `mobile: sent from a mobile device to ${message.module}`];
  return ["main", "main: nothing asks for another exchange"];
}

/** A router that cannot lose a message: if the chosen one fails or takes too long, the rules decide. */
export class SafeRouter {
  readonly rules: Rules;
  readonly #chosen: Router | undefined;
  /** Seconds. */
  readonly #timeout: number;
  readonly #log: Logger;

  constructor(chosen: Router | undefined, rules: Rules, timeout: number, log: Logger) {
    this.#chosen = chosen;
    this.rules = rules;
    this.#timeout = timeout;
    this.#log = log;
  }

  /** True if there is another router than the rules. */
  get isReplaced(): boolean {
    return this.#chosen !== undefined;
  }

  /** Ask the chosen router, for its timeout, and at most `within` seconds. It never rejects. */
  async ask(message: Outgoing, within: number): Promise<Decision> {
    const timeout = Math.min(this.#timeout, within);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(resolve, timeout * 1000, `the router took longer than ${timeout} s`);
    });
    const answer = await Promise.race([this.#answer(message), late]);
    clearTimeout(timer);
    if (typeof answer !== "string") return answer;
    this.#log.warn(`${message.module}.${message.action}: ${answer}; the rules decide`);
    const decision = this.rules.decide(message);
    return { ...decision, reason: `${decision.reason}; ${answer}` };
  }

  /** Return a valid decision, or the problem. */
  async #answer(message: Outgoing): Promise<Decision | string> {
    try {
      const { exchange, priority, mobileOptimized, reason } = await this.#chosen!.decide(message);
      const decision = { exchange, priority, mobileOptimized, reason };
      const problem = this.rules.problemOf(message, decision);
      return problem === undefined ? decision : `the router failed (${problem})`;
    } catch (error) {
      return `the router failed (${thrown(error)})`;
    }
  }
}

/** Return the exchange and the routing key of a decision. */
export function address(names: Names, message: Outgoing, decision: Decision): [exchange: string, routingKey: string] {
  const { module, action } = message;
  if (decision.exchange === "mobile") return [names.mobileExchange, names.mobileKey(module, action)];
  if (decision.exchange === "critical") return [names.criticalExchange, names.criticalKey(module, action)];
  return [names.exchange, names.routingKey(module, action, priorityName(decision.priority))];
}
