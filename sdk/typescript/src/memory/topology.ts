/** Everything a tenant has on the broker, as the platform makes it. */

import type { Catalog, Module } from "../catalog.ts";
import { type Names, PRIORITIES, type Priority } from "../naming.ts";

export interface Exchange {
  readonly name: string;
  readonly type: "topic" | "direct" | "fanout";
  /** Takes the messages without a binding. */
  readonly alternate?: string;
}

export interface DeadLetters {
  readonly exchange: string;
  readonly routingKey: string;
}

export interface Queue {
  readonly name: string;
  readonly deadLetters?: DeadLetters;
}

export interface Binding {
  readonly source: string;
  readonly destination: string;
  readonly routingKey: string;
}

/** What policies say of a queue. Times are ms. */
export interface Settings {
  readonly messageTtl?: number;
  readonly maxLength?: number;
  readonly rejectsWhenFull?: boolean;
  readonly deliveryLimit?: number;
  readonly firstDelay?: number;
  readonly maxDelay?: number;
}

interface Policy {
  readonly kind: "policy" | "operator";
  readonly pattern: RegExp;
  readonly priority: number;
  readonly settings: Settings;
}

export interface Topology {
  readonly exchanges: readonly Exchange[];
  readonly queues: readonly Queue[];
  readonly bindings: readonly Binding[];
  /** Return what a queue's policy and operator policy say: of two numbers the lower one. */
  readonly settings: (queue: string) => Settings;
}

/** Return a tenant's topology. Its modules and plan must be in the catalog. */
export function expand(names: Names, modules: readonly string[], plan: string, catalog: Catalog): Topology {
  const chosen = modules.map((name) => [name, catalog.modules[name]!] as const);
  const attempts = catalog.retry.strategy === "queues" ? catalog.retry.limit : 0;
  const policies = [...policiesOf(names, chosen, plan, catalog)];
  return {
    exchanges: [...exchangesOf(names, modules)],
    queues: [
      { name: names.unrouted },
      ...chosen.flatMap(([name, module]) => [...queuesOf(names, name, module, attempts)]),
    ],
    bindings: [
      { source: names.unrouted, destination: names.unrouted, routingKey: "" },
      ...chosen.flatMap(([name, module]) =>
        module.actions.flatMap((action) => [...bindingsOf(names, name, module, action, attempts)]),
      ),
    ],
    settings: (queue) => effective(queue, policies),
  };
}

function* exchangesOf(names: Names, modules: readonly string[]): Generator<Exchange> {
  const alternate = names.unrouted;
  yield { name: names.unrouted, type: "fanout" };
  yield { name: names.exchange, type: "topic", alternate };
  yield { name: names.mobileExchange, type: "topic", alternate };
  yield { name: names.criticalExchange, type: "direct", alternate };
  yield { name: names.automationExchange, type: "fanout", alternate };
  for (const module of modules) yield { name: names.deadLetterExchange(module), type: "direct" };
}

function* queuesOf(names: Names, name: string, module: Module, attempts: number): Generator<Queue> {
  for (const action of module.actions) {
    const deadLetters = { exchange: names.deadLetterExchange(name), routingKey: names.deadLetterKey(name, action) };
    for (const queue of consumed(names, name, module, action)) {
      yield { name: queue, deadLetters };
      for (let attempt = 1; attempt <= attempts; attempt++) {
        yield { name: names.retryQueue(queue, attempt), deadLetters: { exchange: "", routingKey: queue } };
      }
    }
    yield { name: names.deadLetterQueue(name, action) };
  }
}

/** Return the queues read by an action's consumers: its own, and one per priority lane. */
export function consumed(names: Names, name: string, module: Module, action: string): string[] {
  const lanes = module.priorityLanes[action] ?? [];
  return [names.queue(name, action), ...lanes.map((lane) => names.lane(name, action, lane))];
}

function* bindingsOf(names: Names, name: string, module: Module, action: string, attempts: number): Generator<Binding> {
  const queue = names.queue(name, action);
  const lanes = module.priorityLanes[action] ?? [];
  for (const lane of lanes) {
    const routingKey = names.routingKey(name, action, lane);
    yield { source: names.exchange, destination: names.lane(name, action, lane), routingKey };
  }
  const others: readonly (Priority | "*")[] =
    lanes.length > 0 ? PRIORITIES.filter((each) => !lanes.includes(each)) : ["*"];
  for (const priority of others) {
    yield { source: names.exchange, destination: queue, routingKey: names.routingKey(name, action, priority) };
  }
  if (module.mobilePriority) {
    yield { source: names.mobileExchange, destination: queue, routingKey: names.mobileKey(name, action) };
  }
  if (module.businessCritical) {
    yield { source: names.criticalExchange, destination: queue, routingKey: names.criticalKey(name, action) };
  }
  if (module.aiRouting) yield { source: names.automationExchange, destination: queue, routingKey: "" };
  const source = names.deadLetterExchange(name);
  const routingKey = names.deadLetterKey(name, action);
  yield { source, destination: names.deadLetterQueue(name, action), routingKey };
  for (const each of consumed(names, name, module, action)) {
    for (let attempt = 1; attempt <= attempts; attempt++) {
      yield { source, destination: names.retryQueue(each, attempt), routingKey: names.retryKey(each, attempt) };
    }
  }
}

/** Yield one policy per module, one for dead letters, one per retry queue, and the plan's depth limit. */
function* policiesOf(
  names: Names,
  modules: readonly (readonly [string, Module])[],
  plan: string,
  catalog: Catalog,
): Generator<Policy> {
  const { retry, deadLetters } = catalog;
  for (const [name, module] of modules) {
    const settings = moduleSettings(module, catalog);
    yield { kind: "policy", pattern: names.moduleObjects(name), priority: 1, settings };
  }
  const kept = { messageTtl: deadLetters.retention, maxLength: deadLetters.maxLength, deliveryLimit: -1 };
  yield { kind: "policy", pattern: names.deadLetterObjects, priority: 2, settings: kept };
  for (let attempt = 1; retry.strategy === "queues" && attempt <= retry.limit; attempt++) {
    const messageTtl = Math.min(retry.firstDelay * attempt, retry.maxDelay);
    const settings = { messageTtl, rejectsWhenFull: true };
    yield { kind: "policy", pattern: names.retryObjects(attempt), priority: 3, settings };
  }
  const settings = { maxLength: catalog.plans[plan]!.scaling.maxQueueDepth, rejectsWhenFull: true };
  yield { kind: "operator", pattern: names.limitedObjects, priority: 10, settings };
}

function moduleSettings(module: Module, catalog: Catalog): Settings {
  const { retry, mobile } = catalog;
  return {
    messageTtl: module.retention,
    deliveryLimit: retry.limit,
    rejectsWhenFull: true,
    ...(retry.strategy === "native" && { firstDelay: retry.firstDelay, maxDelay: retry.maxDelay }),
    ...(module.mobilePriority && { maxLength: mobile.maxLength }),
  };
}

function effective(queue: string, policies: readonly Policy[]): Settings {
  const merged: Record<string, number | boolean | undefined> = {};
  for (const kind of ["policy", "operator"] as const) {
    const matching = policies.filter((each) => each.kind === kind && each.pattern.test(queue));
    const best = matching.reduce<Policy | undefined>(
      (one, each) => (one && one.priority >= each.priority ? one : each),
      undefined,
    );
    for (const [name, value] of Object.entries(best?.settings ?? {})) {
      const both = typeof merged[name] === "number" && typeof value === "number";
      merged[name] = both ? Math.min(merged[name] as number, value) : value;
    }
  }
  return merged as Settings;
}
