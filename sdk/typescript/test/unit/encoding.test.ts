import zlib from "node:zlib";
import { expect, test } from "vitest";
import { checkCompression } from "../../src/compression.ts";
import { compress, decode, encode, statedEncoding, Undecodable } from "../../src/encoding.ts";
import { NotSerializable } from "../../src/errors.ts";

const json = (data: unknown) => encode(data, "m-1")[0].toString();

test("data is sent as JSON, and bytes as they are", () => {
  expect(encode({ name: "Ána" }, "m-1")).toEqual([Buffer.from('{"name":"Ána"}'), "application/json"]);
  expect(encode(new Uint8Array([1, 2]).subarray(1), "m-1")).toEqual([Buffer.from([2]), "application/octet-stream"]);
});

test("bytes that change after the call are sent as they were", () => {
  const data = Buffer.from("before");
  const [body] = encode(data, "m-1");
  data.fill(0);
  expect(body.toString()).toBe("before");
});

test("dates, bigints and objects with toJSON are sent", () => {
  const at = new Date("2026-01-05T08:00:00Z");
  class Money {
    readonly cents = 1050;
    toJSON() {
      return this.cents / 100;
    }
  }
  class Lead {
    name = "Ana";
    left = undefined;
  }
  const data = { at, id: 12345678901234567890n, price: new Money(), lead: new Lead() };
  expect(json(data)).toBe(
    '{"at":"2026-01-05T08:00:00.000Z","id":12345678901234567890,"price":10.5,"lead":{"name":"Ana"}}',
  );
});

test("a bigint is a whole number also where a program writes bigints as text", () => {
  const prototype = BigInt.prototype as { toJSON?: () => string };
  prototype.toJSON = () => "text";
  try {
    expect(json({ ids: [17n], id: 18n })).toBe('{"ids":[17],"id":18}');
    expect(json(19n)).toBe("19");
  } finally {
    delete prototype.toJSON;
  }
});

test.each(["secret-1234", '{"name": secret}', "secret\nsecret".repeat(100), ""])(
  "a body that is not JSON is not quoted in the reason: %#",
  (body) => {
    const read = () => decode(Buffer.from(body), "application/json", undefined);
    expect(read).toThrow(Undecodable);
    expect(read).toThrow(/^the body is not JSON: [^"]+$/);
    expect(read).not.toThrow(/secret/);
  },
);

const loop: Record<string, unknown> = {};
loop.again = loop;
test.each([
  [{ lead: { tags: new Set() } }, "lead.tags (Set) is not serialisable"],
  [{ items: [1, Number.NaN] }, "items[1] (NaN)"],
  [[1, undefined], "[1] (undefined)"],
  [undefined, "the data (undefined)"],
  [{ call: () => 1 }, "call (function)"],
  [{ "a key": new Map() }, "['a key'] (Map)"],
  [{ when: new Date("never") }, "when (Date)"],
  [{ half: "\ud800" }, "half (string)"],
  [loop, "contains itself"],
  [
    {
      own: {
        toJSON() {
          throw new Error("boom");
        },
      },
    },
    "boom",
  ],
])("what JSON would change is refused with its path: %#", (data, text) => {
  expect(() => encode(data, "m-1")).toThrow(NotSerializable);
  expect(() => encode(data, "m-1")).toThrow(text);
});

test("data larger than the broker takes is refused", () => {
  expect(() => encode("x".repeat(1000), "m-1", 1001)).toThrow(
    "the data is 1,002 bytes, the broker takes at most 1,001",
  );
});

const body = Buffer.from(JSON.stringify({ text: "kryonix ".repeat(200) }));

test.each(["zstd", "gzip"] as const)("a body compressed by %s is read again", (how) => {
  const [smaller, encoding] = compress(body, how);
  expect(encoding).toBe(how);
  expect(smaller.length).toBeLessThan(body.length / 2);
  expect(decode(smaller, "application/json", encoding)).toEqual(JSON.parse(body.toString()));
});

test("a small body, or one that gets no smaller, is not compressed", () => {
  expect(compress(Buffer.alloc(511), "zstd")[1]).toBeUndefined();
  const noise = Buffer.from(Array.from({ length: 600 }, (_, at) => (at * 7919 + ((at * at) >> 3)) & 255));
  expect(compress(zlib.gzipSync(noise), "gzip")[1]).toBeUndefined();
});

const packed: [string, Buffer][] = [
  ["zstd", zlib.zstdCompressSync(body)],
  ["gzip", zlib.gzipSync(body)],
  ["deflate", zlib.deflateSync(body)],
  ["deflate", zlib.deflateRawSync(body)],
];

test.each(packed)("a body of %s is read up to the limit, and no further: %#", (how, compressed) => {
  expect(decode(compressed, "text/plain", how, body.length)).toBe(body.toString());
  expect(() => decode(compressed, "text/plain", how, body.length - 1)).toThrow("inflate to more than");
});

test.each(packed)("a body of %s that is cut off, or goes on, is refused: %#", (how, compressed) => {
  for (let cut = 0; cut < compressed.length; cut += 5) {
    expect(() => decode(compressed.subarray(0, cut), "text/plain", how)).toThrow(Undecodable);
  }
  expect(() => decode(Buffer.concat([compressed, Buffer.from("more and more")]), "text/plain", how)).toThrow(
    Undecodable,
  );
});

test("a second gzip member is refused, and a second zstd frame is read", () => {
  const [gzip, zstd] = [zlib.gzipSync("one"), zlib.zstdCompressSync(Buffer.from("one"))];
  const skipped = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2]);
  expect(() => decode(Buffer.concat([gzip, gzip]), "text/plain", "gzip")).toThrow("data follows the end");
  expect(decode(Buffer.concat([zstd, skipped, zstd]), "text/plain", "zstd")).toBe("oneone");
  expect(() => decode(Buffer.concat([zstd, zstd]), "text/plain", "zstd", 5)).toThrow("inflate to more than 5");
});

test("an altered gzip body is refused", () => {
  const altered = Buffer.from(zlib.gzipSync(body));
  altered[altered.length - 5]! ^= 1;
  expect(() => decode(altered, "text/plain", "gzip")).toThrow("incorrect data check");
});

test.each([
  ["text/plain", "utf-8", Buffer.from("é"), "é"],
  ["text/plain; charset=ISO-8859-1", undefined, Buffer.from([0xe9]), "é"],
  ["text/plain", "latin-1", Buffer.from([0x80]), "\u0080"],
  ["text/plain", "windows-1252", Buffer.from([0x80]), "€"],
  ["application/json", undefined, Buffer.from('"é"', "utf16le"), "é"],
  ["application/json", undefined, Buffer.from('\ufeff"é"'), "é"],
  [undefined, undefined, Buffer.from("1"), 1],
  ["application/data", "binary", Buffer.from([1]), Buffer.from([1])],
  ["image/png", undefined, Buffer.from("[]"), []],
])("%s in %s is read", (type, encoding, given, expected) => {
  expect(decode(given, type, encoding)).toEqual(expected);
});

test.each([
  ["application/json", undefined, "{", "the body is not JSON"],
  ["application/json", undefined, "1e999", "1e999 exceeds the largest number"],
  ["application/json", undefined, `1${"0".repeat(309)}`, "exceeds the largest number"],
  ["application/json", undefined, Buffer.from([0x22, 0xff, 0x22]), "the body is not UTF-8: byte 1"],
  ["application/json", "br", "1", "content-encoding 'br' is not one of zstd"],
  ["application/json; charset=klingon", undefined, "1", "the charset 'klingon' is unknown"],
  ["image/png", undefined, "png", "(content-type 'image/png')"],
  ["text/plain", "ascii", Buffer.from([0x80]), "the body is not ASCII: byte 0"],
])("%s in %s that cannot be read says why: %#", (type, encoding, given, text) => {
  expect(() => decode(Buffer.from(given as string), type, encoding)).toThrow(Undecodable);
  expect(() => decode(Buffer.from(given as string), type, encoding)).toThrow(text);
});

test("a Node without zstd says what to do", () => {
  const { zstdCompressSync, zstdDecompressSync } = zlib;
  const body = zstdCompressSync("1");
  try {
    Object.assign(zlib, { zstdCompressSync: undefined, zstdDecompressSync: undefined });
    expect(() => checkCompression("zstd")).toThrow(
      "cannot read or write zstd. Run the program with Node 22.15 or later",
    );
    expect(() => decode(body, "application/json", "zstd")).toThrow("Run the program with Node 22.15 or later");
    expect(() => checkCompression("gzip")).not.toThrow();
  } finally {
    Object.assign(zlib, { zstdCompressSync, zstdDecompressSync });
  }
});

test("kombu names its compression in a header", () => {
  const stated = statedEncoding({ compression: "application/x-gzip" }, "utf-8");
  expect(decode(zlib.deflateSync('"ok"'), "application/json", stated)).toBe("ok");
});
