/** Every name in a tenant's topology: no other module concatenates names. */

/** The pattern of a tenant's id, 3 to 40 characters. */
export const TENANT_ID = "[a-z][a-z0-9-]{2,39}";

export const PRIORITIES = ["high", "medium", "low"] as const;

/** The name of a priority in a routing key. */
export type Priority = (typeof PRIORITIES)[number];

const VHOST = new RegExp(`^/cliente_(${TENANT_ID})$`);

/** Return the name of a numeric priority (0 to 10) in a routing key. */
export function priorityName(priority: number): Priority {
  if (priority >= 8) return "high";
  return priority >= 5 ? "medium" : "low";
}

/** Return the name of the user for figures by HTTP, with the password of the application's user. */
export function statsUser(user: string): string {
  return `${user}.stats`;
}

/** Return the id of a vhost's tenant, or undefined. */
export function tenantOfVhost(vhost: string): string | undefined {
  return VHOST.exec(vhost)?.[1];
}

/** The names of one tenant's objects, and patterns of them. */
export class Names {
  readonly deadLetterPolicy = "dlq";
  readonly tenantId: string;
  /** The main exchange; every other object's name begins with it and a dot. */
  readonly exchange: string;
  readonly vhost: string;
  readonly user: string;
  readonly mobileExchange: string;
  readonly criticalExchange: string;
  readonly automationExchange: string;
  /** The alternate exchange and the queue behind it. No application may read the queue. */
  readonly unrouted: string;
  readonly scalingPolicy: string;
  readonly deadLetterObjects: RegExp;
  /** The pattern of all queues but dead-letter ones: a full one would block dead-lettering. */
  readonly limitedObjects: RegExp;

  constructor(tenantId: string) {
    this.tenantId = tenantId;
    this.exchange = `cliente_${tenantId}`;
    this.vhost = `/${this.exchange}`;
    this.user = this.userOf(1);
    this.mobileExchange = `${this.exchange}.mobile_priority`;
    this.criticalExchange = `${this.exchange}.business_critical`;
    this.automationExchange = `${this.exchange}.automation`;
    this.unrouted = `${this.exchange}.unrouted`;
    this.scalingPolicy = `autoscaling-${tenantId}`;
    this.deadLetterObjects = new RegExp(`^${this.exchange}\\..*\\.dlq$`);
    this.limitedObjects = new RegExp(`^${this.exchange}\\.(?!.*\\.dlq$)`);
  }

  /** Return the user of a generation of credentials. Ids have no period, so users of two tenants never collide. */
  userOf(generation: number): string {
    const first = `kryonix_${this.tenantId}`;
    return generation === 1 ? first : `${first}.${generation}`;
  }

  /** Return the user of the same generation for figures only. */
  statsUserOf(generation: number): string {
    return statsUser(this.userOf(generation));
  }

  /** Return the module of one of this tenant's objects, or undefined. */
  moduleOf(name: string): string | undefined {
    const start = `${this.exchange}.`;
    if (!name.startsWith(start)) return undefined;
    const rest = name.slice(start.length);
    const dot = rest.indexOf(".");
    return dot < 0 || dot === rest.length - 1 ? undefined : rest.slice(0, dot);
  }

  deadLetterExchange(module: string): string {
    return `${this.exchange}.${module}.dlx`;
  }

  queue(module: string, action: string): string {
    return `${this.exchange}.${module}.${action}`;
  }

  /** Return the queue of one priority of an action with a lane for it. */
  lane(module: string, action: string, priority: Priority): string {
    return `${this.queue(module, action)}.${priority}`;
  }

  deadLetterQueue(module: string, action: string): string {
    return `${this.queue(module, action)}.dlq`;
  }

  /** Return the queue for messages of `queue` after failure number `attempt`, counted from 1. */
  retryQueue(queue: string, attempt: number): string {
    return `${queue}.retry.${attempt}`;
  }

  routingKey(module: string, action: string, priority: Priority | "*"): string {
    return `${module}.${action}.${priority}`;
  }

  mobileKey(module: string, action: string): string {
    return `mobile.${module}.${action}`;
  }

  criticalKey(module: string, action: string): string {
    return `critical.${module}.${action}`;
  }

  deadLetterKey(module: string, action: string): string {
    return `${module}.${action}.dlq`;
  }

  /** Return the routing key from the module's dead-letter exchange to a retry queue. */
  retryKey(queue: string, attempt: number): string {
    const name = this.retryQueue(queue, attempt);
    const start = `${this.exchange}.`;
    return name.startsWith(start) ? name.slice(start.length) : name;
  }

  modulePolicy(module: string): string {
    return `modulo-${module}`;
  }

  retryPolicy(attempt: number): string {
    return `retry-${attempt}`;
  }

  moduleObjects(module: string): RegExp {
    return new RegExp(`^${this.exchange}\\.${module}\\.`);
  }

  retryObjects(attempt: number): RegExp {
    return new RegExp(`^${this.exchange}\\..*\\.retry\\.${attempt}$`);
  }
}
