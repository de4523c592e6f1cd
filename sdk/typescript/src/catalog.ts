/** The product catalog: modules with their actions, and plans. Durations are ms, sizes bytes. */

import { ConfigurationError } from "./errors.ts";
import { PRIORITIES, type Priority } from "./naming.ts";

/** One business module: a set of actions with one queue each. */
export interface Module {
  readonly actions: readonly string[];
  /** How long a message waits for a consumer before it is a dead letter. */
  readonly retention: number;
  readonly priorityLevels: number;
  /** The priority of a message sent by the module's facade without one. */
  readonly defaultPriority: number;
  readonly mobilePriority: boolean;
  /** How long a message from a mobile device is worth delivering, if shorter than the retention. */
  readonly mobileExpiry?: number;
  readonly aiRouting: boolean;
  readonly businessCritical: boolean;
  readonly evolutionApi: boolean;
  /** Priorities with a queue of their own, by action. */
  readonly priorityLanes: Readonly<Record<string, readonly Priority[]>>;
}

/** What a plan lets a tenant have at most, on the broker. */
export interface Limits {
  readonly maxConnections: number;
  readonly maxQueues: number;
  readonly maxExchanges: number;
  readonly maxChannels: number;
}

/** How many consumers a plan gives an action, at which depths, and a queue's bounds in messages and bytes. */
export interface Scaling {
  readonly maxConsumersPerQueue: number;
  readonly scaleUpThreshold: number;
  readonly scaleDownThreshold: number;
  readonly maxQueueDepth: number;
  readonly maxQueueBytes: number;
}

/** What a tenant has bought. */
export interface Plan {
  readonly limits: Limits;
  readonly scaling: Scaling;
}

/** How failed messages are delivered again: after `firstDelay` times the failures so far, at most `maxDelay`. */
export interface RetrySettings {
  readonly strategy: "native" | "queues";
  readonly firstDelay: number;
  readonly maxDelay: number;
  /** Failures before the message is dead-lettered by the next one. */
  readonly limit: number;
}

/** What the platform sells: modules and plans, and how failed messages are retried and kept. */
export interface Catalog {
  readonly modules: Readonly<Record<string, Module>>;
  readonly plans: Readonly<Record<string, Plan>>;
  readonly retry: RetrySettings;
  readonly mobile: { readonly maxLength: number };
  readonly deadLetters: { readonly retention: number; readonly maxLength: number; readonly maxBytes: number };
}

const UNITS_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const MIB = 1024 * 1024;
const SIZES: Readonly<Record<string, number>> = { KiB: 1024, MiB: MIB, GiB: 1024 * MIB, TiB: MIB * MIB };
const NAME = /^[a-z][a-z0-9_]*$/;
const ACTION = /^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$/;
const SUFFIXES = new Set<string>([...PRIORITIES, "dlq", "retry", "dlx"]);
const REMEDY = "Pass the content of a catalog.yaml, read by a YAML parser";

/**
 * Return the catalog of a `catalog.yaml`, given as the object that a YAML parser makes of it.
 *
 * Throws ConfigurationError with the path of the first problem. `kryonix` checks the same file in full.
 */
export function parseCatalog(content: unknown): Catalog {
  const root = new Fields("", content);
  const deadLetters = root.part("dead_letters");
  return {
    modules: root.named("modules", module),
    plans: root.named("plans", plan),
    retry: retry(root.part("retry")),
    mobile: { maxLength: root.part("mobile").count("max_length") },
    deadLetters: {
      retention: deadLetters.duration("retention"),
      maxLength: deadLetters.count("max_length"),
      maxBytes: deadLetters.size("max_bytes", 16 * MIB),
    },
  };
}

function module(fields: Fields): Module {
  const actions = fields.names("actions");
  for (const action of actions) {
    const reserved = action.split(".").some((word) => SUFFIXES.has(word));
    if (!ACTION.test(action) || reserved)
      fields.refuse("actions", action, "lower-case words and dots, as in leads.create");
  }
  const expiry = fields.has("mobile_expiry") ? { mobileExpiry: fields.duration("mobile_expiry") } : {};
  return {
    actions,
    retention: fields.duration("retention"),
    priorityLevels: fields.count("priority_levels", undefined, 10),
    defaultPriority: fields.count("default_priority", 5, 10, 0),
    mobilePriority: fields.flag("mobile_priority"),
    ...expiry,
    aiRouting: fields.flag("ai_routing"),
    businessCritical: fields.flag("business_critical", false),
    evolutionApi: fields.flag("evolution_api", false),
    priorityLanes: fields.has("priority_lanes") ? lanes(fields.part("priority_lanes"), actions) : {},
  };
}

function lanes(fields: Fields, actions: readonly string[]): Record<string, readonly Priority[]> {
  const found: Record<string, readonly Priority[]> = {};
  for (const action of fields.keys) {
    if (!actions.includes(action)) fields.refuse(action, action, "an action of the module");
    const chosen = fields.names(action) as Priority[];
    const right = chosen.every((lane) => PRIORITIES.includes(lane)) && new Set(chosen).size === chosen.length;
    if (!right || chosen.length === PRIORITIES.length) fields.refuse(action, chosen, "one or two different priorities");
    found[action] = chosen;
  }
  return found;
}

function plan(fields: Fields): Plan {
  const limits = fields.part("limits");
  const scaling = fields.part("scaling");
  return {
    limits: {
      maxConnections: limits.count("max_connections"),
      maxQueues: limits.count("max_queues"),
      maxExchanges: limits.count("max_exchanges"),
      maxChannels: limits.count("max_channels"),
    },
    scaling: {
      maxConsumersPerQueue: scaling.count("max_consumers_per_queue"),
      scaleUpThreshold: scaling.count("scale_up_threshold"),
      scaleDownThreshold: scaling.count("scale_down_threshold"),
      maxQueueDepth: scaling.count("max_queue_depth"),
      maxQueueBytes: scaling.size("max_queue_bytes", 64 * MIB),
    },
  };
}

function retry(fields: Fields): RetrySettings {
  const strategy = fields.value("strategy");
  if (strategy !== "native" && strategy !== "queues") fields.refuse("strategy", strategy, "native or queues");
  const [firstDelay, maxDelay] = [fields.duration("first_delay"), fields.duration("max_delay")];
  if (maxDelay < firstDelay) fields.refuse("max_delay", fields.value("max_delay"), "not below first_delay");
  return {
    strategy: strategy as "native" | "queues",
    firstDelay,
    maxDelay,
    limit: fields.count("limit", undefined, 20),
  };
}

/** The fields of one object of a catalog, read by name. */
class Fields {
  private readonly place: string;
  private readonly fields: Readonly<Record<string, unknown>>;

  constructor(place: string, value: unknown) {
    this.place = place;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new ConfigurationError(`catalog${place && `: ${place}`} is not a mapping`, { remedy: REMEDY });
    }
    this.fields = value as Record<string, unknown>;
  }

  get keys(): string[] {
    return Object.keys(this.fields);
  }

  has(name: string): boolean {
    return this.value(name) !== undefined && this.value(name) !== null;
  }

  value(name: string): unknown {
    return Object.hasOwn(this.fields, name) ? this.fields[name] : undefined;
  }

  refuse(name: string, value: unknown, rule: string): never {
    const shown = value === undefined ? "nothing" : JSON.stringify(value)?.slice(0, 60);
    throw new ConfigurationError(`catalog: ${this.path(name)}: ${shown} is not valid (${rule})`, { remedy: REMEDY });
  }

  part(name: string): Fields {
    return new Fields(this.path(name), this.value(name));
  }

  named<Part>(name: string, read: (fields: Fields) => Part): Record<string, Part> {
    const parts = this.part(name);
    const found: Record<string, Part> = {};
    for (const key of parts.keys) {
      if (!NAME.test(key)) parts.refuse(key, key, "lower-case letters, digits and _");
      found[key] = read(parts.part(key));
    }
    if (parts.keys.length === 0) this.refuse(name, {}, "one at least");
    return found;
  }

  names(name: string): string[] {
    const value = this.value(name);
    const right = Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string");
    if (!right || new Set(value).size !== value.length) this.refuse(name, value, "a list of different names");
    return [...(value as string[])];
  }

  flag(name: string, usual?: boolean): boolean {
    const value = this.value(name) ?? usual;
    if (typeof value !== "boolean") this.refuse(name, value, "true or false");
    return value as boolean;
  }

  count(name: string, usual?: number, most = Number.MAX_SAFE_INTEGER, least = 1): number {
    const value = this.value(name) ?? usual;
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
      this.refuse(name, value, `a whole number from ${least}`);
    }
    return value as number;
  }

  duration(name: string): number {
    return this.amount(name, UNITS_MS, "a whole number above 0 and s, m, h or d, as in 24h");
  }

  size(name: string, usual: number): number {
    return this.has(name) ? this.amount(name, SIZES, "a whole number above 0 and KiB, MiB, GiB or TiB") : usual;
  }

  private amount(name: string, units: Readonly<Record<string, number>>, rule: string): number {
    const value = this.value(name);
    const [, digits, unit] = (typeof value === "string" && /^([1-9][0-9]{0,8})([A-Za-z]+)$/.exec(value)) || [];
    const size = unit === undefined ? undefined : units[unit];
    if (size === undefined) this.refuse(name, value, rule);
    return Number(digits) * (size as number);
  }

  private path(name: string): string {
    return this.place === "" ? name : `${this.place}.${name}`;
  }
}
