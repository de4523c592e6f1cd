/**
 * Measure the SDK and bare amqplib, each doing the same messaging in turn: `node bench/rounds.ts URI MESSAGES ROUNDS`.
 *
 * Prints one JSON object: the results of every round, by contender and workload. benchmarks/sdk_typescript.py runs it.
 */

import { randomUUID } from "node:crypto";
import { type ChannelModel, type ConfirmChannel, connect } from "amqplib";
import { MessagingClient } from "../src/client.ts";
import { parseUri } from "../src/configuration.ts";
import { Names } from "../src/naming.ts";
import { VERSION } from "../src/version.ts";

const MODULE = "portal";
const ACTION = "interacoes.track";
const WINDOW = 256;
const PREFETCH = 100;
const CONCURRENCY = 10;
const DATA = { text: "x".repeat(1000), n: 1 };

/** Each method handles so many messages and returns the latency of each, in ms. */
interface Contender {
  /** Publish one message, and wait until it is confirmed. */
  one(): Promise<unknown>;
  /** Take from the queue, decode, handle, acknowledge. Latency: from one message to the next. */
  consume(count: number): Promise<number[]>;
  close(): Promise<void>;
}

/** The times between messages, up to a number of messages. */
class Gaps {
  readonly latencies: number[] = [];
  readonly done: Promise<void>;
  readonly #count: number;
  #last = performance.now();
  #end!: () => void;

  constructor(count: number) {
    this.#count = count;
    this.done = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  note(): void {
    const now = performance.now();
    this.latencies.push(now - this.#last);
    this.#last = now;
    if (this.latencies.length >= this.#count) this.#end();
  }
}

/** This project's SDK. */
class Sdk implements Contender {
  readonly #client: MessagingClient;

  constructor(client: MessagingClient) {
    this.#client = client;
  }

  static async connect(uri: string): Promise<Sdk> {
    return new Sdk(await MessagingClient.connect({ amqpUri: uri, application: "benchmark" }));
  }

  one(): Promise<unknown> {
    return this.#client.portal.send(ACTION, DATA);
  }

  async consume(count: number): Promise<number[]> {
    const gaps = new Gaps(count);
    const options = { concurrency: CONCURRENCY, prefetch: PREFETCH };
    const consumer = await this.#client.portal.consume(ACTION, async () => gaps.note(), options);
    await gaps.done;
    await consumer.stop();
    return gaps.latencies;
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}

/** amqplib as in its documentation, with the SDK's work for each message done by hand. */
class Bare implements Contender {
  readonly #model: ChannelModel;
  readonly #channel: ConfirmChannel;
  readonly #names: Names;

  constructor(model: ChannelModel, channel: ConfirmChannel, names: Names) {
    this.#model = model;
    this.#channel = channel;
    this.#names = names;
  }

  static async connect(uri: string): Promise<Bare> {
    const model = await connect(uri, { noDelay: true });
    return new Bare(model, await model.createConfirmChannel(), new Names(parseUri(uri).tenantId));
  }

  one(): Promise<unknown> {
    const options = {
      messageId: randomUUID(),
      headers: {
        "cliente-id": this.#names.tenantId,
        modulo: MODULE,
        acao: ACTION,
        "mobile-optimized": false,
        "kryonix-sdk-version": VERSION,
      },
      persistent: true,
      mandatory: true,
      priority: 5,
      contentType: "application/json",
      timestamp: Math.floor(Date.now() / 1000),
      appId: "benchmark",
    };
    const key = this.#names.routingKey(MODULE, ACTION, "medium");
    const body = Buffer.from(JSON.stringify(DATA));
    return new Promise((resolve, reject) => {
      this.#channel.publish(this.#names.exchange, key, body, options, (error, ok) => {
        if (error) reject(error);
        else resolve(ok);
      });
    });
  }

  async consume(count: number): Promise<number[]> {
    const gaps = new Gaps(count);
    const handle = async (_: unknown) => gaps.note();
    const channel = await this.#model.createChannel();
    await channel.prefetch(PREFETCH);
    // biome-ignore lint/nursery/noMisusedPromises: amqplib ignores what it returns, as every program's does
    const { consumerTag } = await channel.consume(this.#names.queue(MODULE, ACTION), async (message) => {
      if (message === null) return;
      await handle(JSON.parse(message.content.toString()));
      channel.ack(message);
    });
    await gaps.done;
    await channel.cancel(consumerTag);
    await channel.close();
    return gaps.latencies;
  }

  close(): Promise<void> {
    return this.#model.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** Publish with so many confirmations on their way. Latency: from publish to confirmation. */
async function send(contender: Contender, count: number, window: number): Promise<number[]> {
  const latencies: number[] = [];
  let begun = 0;
  const work = async () => {
    while (begun < count) {
      begun++;
      latencies.push(await timed(() => contender.one()));
    }
  };
  await Promise.all(Array.from({ length: window }, work));
  return latencies;
}

const WORKLOADS = {
  pipelined: (contender: Contender, count: number) => send(contender, count, WINDOW),
  consume: (contender: Contender, count: number) => contender.consume(count),
  one_by_one: (contender: Contender, count: number) => send(contender, count / 10, 1),
};
const CONTENDERS = { sdk: Sdk.connect, amqplib: Bare.connect };

/** What of one round is reported. */
interface Round {
  readonly perSecond: number;
  /** User and system time of this process for each message, µs. */
  readonly cpu: number;
  readonly p50: number;
  readonly p99: number;
}

async function measured(run: () => Promise<number[]>): Promise<Round> {
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  const latencies = await run();
  const [ms, used] = [performance.now() - began, process.cpuUsage(cpu)];
  const sorted = latencies.sort((one, other) => one - other);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)]!;
  return {
    perSecond: (sorted.length / ms) * 1000,
    cpu: (used.user + used.system) / sorted.length,
    p50: at(0.5),
    p99: at(0.99),
  };
}

async function main([uri, messages, rounds]: readonly string[]): Promise<void> {
  const results: Record<string, Record<string, Round[]>> = {};
  const names = Object.keys(CONTENDERS) as (keyof typeof CONTENDERS)[];
  // The round before the first warms up and does not count; who comes first changes from round to round.
  for (let round = -1; round < Number(rounds); round++) {
    for (const name of round % 2 === 0 ? names : [...names].reverse()) {
      const contender = await CONTENDERS[name](uri!);
      for (const [workload, run] of Object.entries(WORKLOADS)) {
        const result = await measured(() => run(contender, Number(messages)));
        if (round >= 0) {
          results[name] ??= {};
          results[name][workload] ??= [];
          results[name][workload].push(result);
        }
      }
      // What was sent one by one is taken away, for the next to begin with an empty queue.
      await contender.consume(Math.floor(Number(messages) / 10));
      await contender.close();
    }
  }
  process.stdout.write(JSON.stringify(results));
}

await main(process.argv.slice(2));
