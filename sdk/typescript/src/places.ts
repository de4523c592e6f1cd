/** Where the messages of each action go, worked out once. */

import type { Catalog } from "./catalog.ts";
import type { HeaderValue, Outgoing } from "./message.ts";
import type { Names } from "./naming.ts";
import { address, type Decision } from "./routing.ts";
import { VERSION } from "./version.ts";

/** Where a message goes. */
export interface Place {
  readonly decision: Decision;
  readonly exchange: string;
  readonly routingKey: string;
  readonly queues: readonly string[];
  /** The catalog's time to live for a message to a mobile device, ms. */
  readonly expiry: number | undefined;
  /** The SDK's own headers. */
  readonly headers: Readonly<Record<string, HeaderValue>>;
}

/** The usual places of one action, by what the rules look at. */
export class ActionPlaces {
  readonly queues: readonly string[];
  readonly #places: (Place | undefined)[] = [];

  constructor(queue: string) {
    this.queues = [queue];
  }

  /** Return the place of a message whose time to live is not stated, if it is known. */
  get(priority: number, mobile: boolean): Place | undefined {
    return this.#places[priority * 2 + (mobile ? 1 : 0)];
  }

  set(priority: number, mobile: boolean, place: Place): void {
    this.#places[priority * 2 + (mobile ? 1 : 0)] = place;
  }
}

/** The places of one tenant's messages. */
export class Places {
  readonly #names: Names;
  readonly #catalog: Catalog;
  readonly #modules = new Map<string, Map<string, ActionPlaces>>();

  constructor(names: Names, catalog: Catalog) {
    this.#names = names;
    this.#catalog = catalog;
    for (const [name, module] of Object.entries(catalog.modules)) {
      const actions = module.actions.map((action) => [action, new ActionPlaces(names.queue(name, action))] as const);
      this.#modules.set(name, new Map(actions));
    }
  }

  /** Return the places of an action; undefined for one that is not in the catalog. */
  of(module: string, action: string): ActionPlaces | undefined {
    return this.#modules.get(module)?.get(action);
  }

  /** Return the place of a decision. */
  make(message: Outgoing, decision: Decision): Place {
    const { module, action } = message;
    const [exchange, routingKey] = address(this.#names, message, decision);
    return {
      decision,
      exchange,
      routingKey,
      queues: this.of(module, action)!.queues,
      expiry: decision.mobileOptimized ? this.#catalog.modules[module]!.mobileExpiry : undefined,
      headers: Object.freeze({ modulo: module, acao: action, ...this.#headers(decision) }),
    };
  }

  /** Return the place of a broadcast: every queue of the modules with AI routing. */
  broadcast(priority: number): Place {
    const modules = Object.entries(this.#catalog.modules).filter(([, module]) => module.aiRouting);
    const decision: Decision = {
      exchange: "main",
      priority,
      mobileOptimized: false,
      reason: "automation: a broadcast",
    };
    return {
      decision,
      exchange: this.#names.automationExchange,
      routingKey: "",
      queues: modules.map(([name, module]) => this.#names.queue(name, module.actions[0]!)),
      expiry: undefined,
      headers: Object.freeze(this.#headers(decision)),
    };
  }

  #headers(decision: Decision): Record<string, HeaderValue> {
    return {
      "cliente-id": this.#names.tenantId,
      "mobile-optimized": decision.mobileOptimized,
      "kryonix-sdk-version": VERSION,
    };
  }
}
