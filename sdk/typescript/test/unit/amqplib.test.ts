/** What wire.ts uses of amqplib's internals. It fails when they move. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { expect, test, vi } from "vitest";
import { SpeaksTls, Wire } from "../../src/amqp/wire.ts";

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

/** Return a connection that reads these pieces, with nothing between some of them. */
function reading(pieces: (Buffer | null)[]): Wire {
  const stream = new PassThrough();
  pieces.reverse();
  stream.read = () => pieces.pop() ?? null;
  return new Wire(stream);
}

test.each([1, 7, 100, 5_000])("frames in pieces of %d bytes are read whole, and joined once", (size) => {
  const payload = Buffer.alloc(20_000, "0123456789");
  const frame = Buffer.concat([Buffer.from([3, 0, 9, 0, 0, 0x4e, 0x20]), payload, Buffer.from([206])]);
  const bytes = Buffer.concat([frame, frame]);
  const pieces: (Buffer | null)[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size), null);
  const wire = reading(pieces);
  const joined = vi.spyOn(Buffer, "concat");
  const found: { readonly content: Buffer }[] = [];
  while (pieces.length > 0) {
    const read = wire.recvFrame();
    if (read) found.push(read as never);
  }
  expect(joined.mock.calls.length).toBeLessThan(5);
  joined.mockRestore();
  expect(found.map((each) => each.content.equals(payload))).toEqual([true, true]);
});

test("a TLS alert is known by its first byte, before the login", () => {
  const wire = reading([Buffer.from([0x15, 3, 1, 0, 2, 2, 0x46])]);
  expect(() => wire.recvFrame()).toThrow(SpeaksTls);
});
