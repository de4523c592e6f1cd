/** The figures of a tenant's queues, read from the broker's management API. */

import type { Catalog } from "./catalog.ts";
import { type Names, PRIORITIES } from "./naming.ts";
import type { QueueFigures } from "./transport.ts";

/** What a queue is for. */
export type QueueKind = "action" | "lane" | "retry" | "dead-letter" | "unrouted" | "other";

/** Figures of one queue, a few seconds old. Rates are messages per second. */
export interface QueueStats {
  readonly name: string;
  readonly module: string | undefined;
  readonly action: string | undefined;
  readonly kind: QueueKind;
  /** Ready and unacknowledged messages. */
  readonly depth: number;
  readonly ready: number;
  readonly unacked: number;
  readonly consumers: number;
  readonly publishRate: number;
  readonly deliverRate: number;
  readonly ackRate: number;
}

/** The end of a queue's name, behind its action's. */
const SUFFIX = new RegExp(`^(?<lane>\\.(?:${PRIORITIES.join("|")}))?(?<retry>\\.retry\\.[0-9]+)?$`);

/** Return the stats of one queue of the management API. A new queue without figures counts as empty. */
export function readStats(figures: QueueFigures, names: Names, catalog: Catalog): QueueStats {
  const name = String(figures.name);
  const rates = figures.message_stats;
  return {
    name,
    ...identityOf(name, names, catalog),
    depth: numberIn(figures, "messages"),
    ready: numberIn(figures, "messages_ready"),
    unacked: numberIn(figures, "messages_unacknowledged"),
    consumers: numberIn(figures, "consumers"),
    publishRate: numberIn(partOf(rates, "publish_details"), "rate"),
    deliverRate: numberIn(partOf(rates, "deliver_get_details"), "rate"),
    ackRate: numberIn(partOf(rates, "ack_details"), "rate"),
  };
}

function partOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function numberIn(value: unknown, name: string): number {
  const found = partOf(value, name);
  return typeof found === "number" ? found : 0;
}

function identityOf(name: string, names: Names, catalog: Catalog): Pick<QueueStats, "module" | "action" | "kind"> {
  if (name === names.unrouted) return { module: undefined, action: undefined, kind: "unrouted" };
  for (const [module, { actions }] of Object.entries(catalog.modules)) {
    for (const action of actions) {
      if (name === names.deadLetterQueue(module, action)) return { module, action, kind: "dead-letter" };
      const queue = names.queue(module, action);
      const suffix = name.startsWith(queue) ? SUFFIX.exec(name.slice(queue.length)) : null;
      if (suffix === null) continue;
      const { lane, retry } = suffix.groups!;
      return { module, action, kind: retry === undefined ? (lane === undefined ? "action" : "lane") : "retry" };
    }
  }
  return { module: undefined, action: undefined, kind: "other" };
}
