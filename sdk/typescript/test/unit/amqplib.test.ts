/** What wire.ts uses of amqplib's internals. It fails when they move. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { Wire } from "../../src/amqp/wire.ts";

const load = createRequire(import.meta.url);
const folder = dirname(load.resolve("amqplib"));

test("the version is the one that was read", () => {
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string };
  expect(version).toMatch(/^2\.3\.\d+$/);
});

test("the reader and the writer of messages are called where they were", () => {
  const source = (name: string) => readFileSync(join(folder, "lib", name), "utf8");
  const connection = source("connection.js");
  for (const use of [
    "self.recvFrame()",
    "self.accept(frame)",
    "this.stream.read()",
    "this.sentSinceLastCheck = true",
  ]) {
    expect(connection).toContain(use);
  }
  expect(source("channel.js")).toContain("safeEmit(this, 'close')");
  expect(source("channel_model.js")).toContain("this.registerConsumer(ok.fields.consumerTag, callback)");
});

test("a connection has the members that are used", () => {
  const wire = new Wire(new PassThrough());
  for (const name of ["open", "close", "recvFrame", "sendBytes"] as const) {
    expect((wire as unknown as Record<string, unknown>)[name], name).toBeTypeOf("function");
  }
  expect(wire).toMatchObject({ blocked: false, recvSinceLastCheck: false, frameMax: expect.any(Number) });
  expect(Buffer.isBuffer(wire.rest)).toBe(true);
});

test("a connection whose socket is closed here ends", async () => {
  const stream = new PassThrough();
  const wire = new Wire(stream);
  stream.destroy();
  await wire.ended;
  expect(wire.isEnded).toBe(true);
});
