/** Properties in bytes, as they are written and read. */

import { describe, expect, test } from "vitest";
import { readProperties, Scratch, writeProperties } from "../../src/amqp/properties.ts";
import { written } from "../../src/amqp/wire.ts";
import { NotSerializable } from "../../src/errors.ts";
import { type Envelope, envelope, Header, type HeaderValue } from "../../src/message.ts";

function message(parts: Partial<Envelope>): Envelope {
  return envelope({ exchange: "x", routingKey: "k", body: Buffer.alloc(0), messageId: "1", ...parts });
}

function bytesOf(parts: Partial<Envelope>): Buffer {
  const out = new Scratch();
  writeProperties(out, message(parts));
  return Buffer.from(out.buffer.subarray(0, out.end));
}

function again(parts: Partial<Envelope>) {
  const bytes = bytesOf(parts);
  return readProperties(bytes, 0, bytes.length);
}

function headersOf(table: Buffer): Record<string, HeaderValue> {
  const bytes = Buffer.concat([Buffer.from([0x20, 0, 0, 0, 0, 0]), table]);
  bytes.writeUInt32BE(table.length, 2);
  return readProperties(bytes, 0, bytes.length).headers;
}

test("headers are a message's own, whatever a program adds to all objects", () => {
  const all = Object.prototype as Record<string, unknown>;
  all.added = () => undefined;
  try {
    expect(Object.keys(again({ headers: { own: 1 } }).headers)).toEqual(["own"]);
  } finally {
    delete all.added;
  }
});

test("all properties are read as they were written", () => {
  const parts = {
    contentType: "application/json",
    contentEncoding: "zstd",
    priority: 7,
    correlationId: "c",
    replyTo: "r",
    expiration: 1500,
    messageId: "é✓",
    timestamp: new Date(1_700_000_000_000),
    type: "t",
    appId: "a",
    headers: {
      deep: { list: ["x".repeat(300), -1, 127, 128, -129, 40_000, 2 ** 40, 0.5, true, null, new Date(1e12)] },
    },
  };
  expect(again(parts)).toEqual(parts);
});

test("what is not set is not written", () => {
  const read = again({ contentType: undefined, messageId: "" });
  expect(read).toEqual({ ...read, contentType: undefined, messageId: "", timestamp: undefined, headers: {} });
});

test("a bigint keeps its 64 bits, and comes back as a number where one can hold it", () => {
  const big = { large: 2n ** 62n + 1n, small: 5n };
  expect(again({ headers: big }).headers).toEqual({ large: 2n ** 62n + 1n, small: 5 });
});

test("text that is not UTF-8 and octets are written back as they came", () => {
  const text = Buffer.from([0x53, 0, 0, 0, 2, 0x6a, 0xe3]);
  const octets = Buffer.from([0x78, 0, 0, 0, 1, 0xff]);
  const table = Buffer.concat([Buffer.from("\x01s"), text, Buffer.from("\x01o"), octets]);
  const headers = headersOf(table);
  expect(headers.s).toEqual(Buffer.from([0x6a, 0xe3]));
  expect(bytesOf({ headers }).includes(table)).toBe(true);
});

test("a replacement character that was sent stays text", () => {
  expect(again({ headers: { text: "a\ufffdb" } }).headers).toEqual({ text: "a\ufffdb" });
});

test("the fraction of a second of a received message is kept", () => {
  const timestamp = new Date(1_700_000_000_123);
  expect(again({ timestamp, received: true }).timestamp).toEqual(timestamp);
  expect(again({ timestamp }).timestamp).toEqual(new Date(1_700_000_000_000));
});

test("a header named __proto__ is one like any other", () => {
  const headers = headersOf(Buffer.concat([Buffer.from("\x09__proto__"), Buffer.from([0x74, 1])]));
  expect(Object.keys(headers)).toEqual(["__proto__"]);
  expect(Object.getPrototypeOf(headers)).toBe(Object.prototype);
});

describe("properties that cannot be read become one header with the reason", () => {
  const nested = Array.from({ length: 5_000 }).reduce<Buffer>((inner) => {
    const head = Buffer.from([0x41, 0, 0, 0, 0]);
    head.writeUInt32BE(inner.length, 1);
    return Buffer.concat([head, inner]);
  }, Buffer.from("V"));
  const cases: [string, Buffer, RegExp][] = [
    ["an unknown type", Buffer.from([1, 0x68, 0x7a, 0]), /unknown type/],
    ["a time in microseconds", Buffer.from([1, 0x74, 0x54, 0, 6, 10, 24, 30, 40, 50, 60]), /is not a time/],
    ["lists 5,000 deep", Buffer.concat([Buffer.from("\x01h"), nested]), /deeper/],
    ["a length beyond the frame", Buffer.from([1, 0x68, 0x53, 0, 0, 0xff, 0xff]), /too early/],
    ["a name that is not UTF-8", Buffer.from([1, 0xe3, 0x56]), /not UTF-8/],
  ];

  test.each(cases)("%s", (_, table, reason) => {
    const headers = headersOf(table);
    expect(Object.keys(headers)).toEqual([Header.UNREADABLE]);
    expect(headers[Header.UNREADABLE]).toMatch(reason);
  });
});

describe("a message that cannot be written is NotSerializable", () => {
  const cyclic: Record<string, HeaderValue> = {};
  cyclic.self = cyclic;
  const cases: [string, Partial<Envelope>][] = [
    ["a function", { headers: { f: (() => 1) as unknown as HeaderValue } }],
    ["a header that contains itself", { headers: cyclic }],
    ["an invalid Date", { headers: { d: new Date(Number.NaN) } }],
    ["a bigint of 65 bits", { headers: { n: 2n ** 64n } }],
    ["a name of 256 bytes", { headers: { ["x".repeat(256)]: 1 } }],
    ["an id of 256 bytes", { messageId: "é".repeat(128) }],
    ["headers larger than a frame", { headers: { large: "x".repeat(131_072) } }],
    ["a routing key of 256 bytes", { routingKey: "x".repeat(256) }],
  ];

  test.each(cases)("%s", (_, parts) => {
    expect(() => written(message(parts), 131_072)).toThrow(NotSerializable);
  });
});
