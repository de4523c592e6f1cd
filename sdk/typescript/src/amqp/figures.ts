/** Reading the figures of a tenant's queues from the broker's management API. */

import { get as getPlain, type RequestOptions } from "node:http";
import { get as getSecure } from "node:https";
import type { SecureContextOptions } from "node:tls";
import type { Address } from "../configuration.ts";
import { StatsUnavailable } from "../errors.ts";
import { statsUser } from "../naming.ts";
import type { QueueFigures } from "../transport.ts";

const COLUMNS = [
  "name",
  "messages",
  "messages_ready",
  "messages_unacknowledged",
  "consumers",
  "message_stats.publish_details.rate",
  "message_stats.deliver_get_details.rate",
  "message_stats.ack_details.rate",
].join(",");
const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
/** Bytes of an answer: far above what ten thousand queues take. */
const MAX_ANSWER = 64 * 1024 * 1024;

/** Whose figures are read. */
export type FiguresAddress = Pick<Address, "username" | "vhost" | "managementUrls" | "password">;

/**
 * Return the management API's figures of all queues of the vhost, from the first node that gives them.
 *
 * `tls` verifies its certificate, `timeout` is seconds. Rejects with StatsUnavailable.
 */
export async function queueFigures(
  address: FiguresAddress,
  tls: SecureContextOptions,
  timeout: number,
): Promise<readonly QueueFigures[]> {
  const urls = [...new Set(address.managementUrls.map((url) => url.replace(/\/+$/, "")))];
  if (urls.length === 0) {
    const remedy = "Pass managementUrl to connect(), or set KRYONIX_MANAGEMENT_URL; `kryonix outputs` prints it";
    throw new StatsUnavailable("no management API address", { remedy });
  }
  const deadline = performance.now() + timeout * 1000;
  const silent: Silent[] = [];
  for (const [number, url] of urls.entries()) {
    const left = (deadline - performance.now()) / (urls.length - number);
    try {
      return await figuresAt(url, address, tls, Math.max(left, 0));
    } catch (error) {
      if (!(error instanceof Silent)) throw error;
      silent.push(error);
    }
  }
  throw new StatsUnavailable(silent.map((error) => error.message).join("; "), { cause: silent[0] });
}

/** A node gives no answer, or none that can be used. Another may. */
class Silent extends Error {}

async function figuresAt(
  url: string,
  address: FiguresAddress,
  tls: SecureContextOptions,
  ms: number,
): Promise<readonly QueueFigures[]> {
  const queues = `${url}/api/queues/${encodeURIComponent(address.vhost)}`;
  const target = `${queues}?columns=${COLUMNS}&disable_stats=false`;
  const end = AbortSignal.timeout(Math.ceil(ms));
  let answer: Answer | undefined;
  try {
    // The application's user is for an older platform, which has no stats user yet.
    for (const user of [statsUser(address.username), address.username]) {
      answer = await fetched(target, `${user}:${address.password()}`, tls, end);
      if (answer.status !== UNAUTHORIZED) break;
    }
  } catch (error) {
    throw new Silent(`${queues} gives no figures (${reasonOf(error, end)})`);
  }
  const { status, body } = answer!;
  if (status === UNAUTHORIZED || status === FORBIDDEN) {
    const user = statsUser(address.username);
    const remedy = `Check user and password in the AMQP URI: figures are read as ${user}, with the same password`;
    throw new StatsUnavailable(`${queues} refuses ${user} (${status})`, { remedy });
  }
  if (status < 200 || status > 299) throw new Silent(`${queues} gives no figures (HTTP status ${status})`);
  const figures = parsed(body);
  if (figures === undefined) throw new Silent(`${queues} does not answer with a list of queues`);
  return figures;
}

function reasonOf(error: unknown, end: AbortSignal): string {
  if (end.aborted) return "no answer in time";
  return error instanceof Error ? error.message || error.name : String(error);
}

function parsed(body: string): readonly QueueFigures[] | undefined {
  try {
    const answer: unknown = JSON.parse(body);
    const isList =
      Array.isArray(answer) && answer.every((queue) => typeof queue === "object" && queue !== null && "name" in queue);
    return isList ? (answer as QueueFigures[]) : undefined;
  } catch {
    return undefined;
  }
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Get a page whole, on a connection of its own. As AMQP does, it ignores the environment's proxies. */
function fetched(url: string, auth: string, tls: SecureContextOptions, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions = { auth, signal, agent: false };
    const request = url.startsWith("https:") ? getSecure(url, { ...tls, ...options }) : getPlain(url, options);
    request.on("error", reject);
    request.on("response", (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        size += part.length;
        if (size > MAX_ANSWER) request.destroy(new Error("the answer is too large"));
      });
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() }));
    });
  });
}
