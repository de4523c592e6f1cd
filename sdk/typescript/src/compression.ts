/** Compress bodies, and decompress those of other applications, within a limit. */

import zlib from "node:zlib";
import { shown } from "./checks.ts";
import { ConfigurationError } from "./errors.ts";

export const COMPRESSIONS = ["zstd", "gzip"] as const;

/** The formats that a body can be compressed with. */
export type Compression = (typeof COMPRESSIONS)[number];

/** The largest message the broker accepts, and the largest result of decompression, in bytes. */
export const MAX_BYTES = 16 * 1024 * 1024;
/** Bytes. A smaller body is not compressed. */
export const MIN_COMPRESSED = 512;

const MIN_SAVING = 0.9;
const LEVEL = 3;
/** The window of `zstd --long`, as a power of two: 128 MiB. */
const WINDOW_LOG = 27;
const ZSTD_MAGIC = 0xfd2fb528;
/** Of frames that hold no data; the last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d2a50;

const NO_ZSTD = `Node ${process.versions.node} cannot read or write zstd`;
const NO_ZSTD_REMEDY = "Run the program with Node 22.15 or later";

/** A message with an unreadable body: another delivery cannot help. */
export class Undecodable extends Error {
  override readonly name = "Undecodable";
}

/** Throw ConfigurationError for an unknown compression, or one that this Node lacks. */
export function checkCompression(compression: unknown): void {
  if (compression === null || compression === "gzip") return;
  if (compression !== "zstd") {
    const problem = `compression: ${shown(compression)} is not one of ${COMPRESSIONS.join(", ")}`;
    throw new ConfigurationError(problem, { remedy: "Pass one of them, or null to turn it off" });
  }
  if (typeof zlib.zstdCompressSync !== "function") {
    const remedy = `${NO_ZSTD_REMEDY}; with compression: "gzip" or null this one sends, but reads no zstd of others`;
    throw new ConfigurationError(NO_ZSTD, { remedy });
  }
}

/** Return the body and its content encoding: compressed if that saves at least a tenth, else unchanged. */
export function compress(body: Buffer, how: Compression): [body: Buffer, contentEncoding: Compression | undefined] {
  if (body.length < MIN_COMPRESSED) return [body, undefined];
  const smaller =
    how === "zstd"
      ? zlib.zstdCompressSync(body, { params: { [zlib.constants.ZSTD_c_compressionLevel]: LEVEL } })
      : zlib.gzipSync(body, { level: 6 });
  return smaller.length < body.length * MIN_SAVING ? [smaller, how] : [body, undefined];
}

export type Inflation = Compression | "deflate";

/** Decompress a body, holding at most `maxBytes`. Throws Undecodable. */
export function inflate(body: Buffer, how: Inflation, maxBytes: number = MAX_BYTES): Buffer {
  try {
    return how === "zstd" ? inflateZstd(body, maxBytes) : inflateZlib(body, how, maxBytes);
  } catch (error) {
    if (error instanceof Undecodable) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ERR_BUFFER_TOO_LARGE") throw tooLarge(body, how, maxBytes);
    if (code === "Z_BUF_ERROR") throw cutOff(how);
    throw new Undecodable(`the body is not ${how}: ${message}`);
  }
}

function tooLarge(body: Buffer, how: Inflation, maxBytes: number): Undecodable {
  const [size, most] = [body.length.toLocaleString("en"), maxBytes.toLocaleString("en")];
  return new Undecodable(`${size} bytes of ${how} inflate to more than ${most}`);
}

function cutOff(how: Inflation): Undecodable {
  return new Undecodable(`the body ends in the middle of its ${how}`);
}

function inflateZstd(body: Buffer, maxBytes: number): Buffer {
  if (typeof zlib.zstdDecompressSync !== "function") throw new Undecodable(`${NO_ZSTD}. ${NO_ZSTD_REMEDY}`);
  const parts: Buffer[] = [];
  let [start, size] = [0, 0];
  do {
    const end = endOfFrame(body, start);
    if (end === undefined) throw cutOff("zstd");
    if (!isSkippable(body, start)) {
      const params = { [zlib.constants.ZSTD_d_windowLogMax]: WINDOW_LOG };
      const left = maxBytes - size;
      if (left === 0) throw tooLarge(body, "zstd", maxBytes);
      const part = zlib.zstdDecompressSync(body.subarray(start, end), { maxOutputLength: left, params });
      size += part.length;
      parts.push(part);
    }
    start = end;
  } while (start < body.length);
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

function isSkippable(body: Buffer, start: number): boolean {
  return body.length >= start + 4 && (body.readUInt32LE(start) & 0xffff_fff0) === SKIPPABLE_MAGIC;
}

/**
 * Return where a frame ends, by the lengths of its blocks (RFC 8878), or undefined if the body ends before.
 *
 * Node takes a frame that is cut off for a whole one, and ignores what follows the first.
 */
function endOfFrame(body: Buffer, start: number): number | undefined {
  if (body.length < start + 8) return undefined;
  if (isSkippable(body, start)) {
    const end = start + 8 + body.readUInt32LE(start + 4);
    return end <= body.length ? end : undefined;
  }
  if (body.readUInt32LE(start) !== ZSTD_MAGIC) {
    throw new Undecodable(
      start === 0
        ? "the body is not zstd: it does not begin with a frame"
        : "data follows the end of the compressed body",
    );
  }
  const descriptor = body[start + 4]!;
  const single = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  let at = start + 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (;;) {
    if (body.length < at + 3) return undefined;
    const header = body.readUIntLE(at, 3);
    const kind = (header >> 1) & 3;
    at += 3 + (kind === 1 ? 1 : header >> 3);
    if ((header & 1) === 1) break;
  }
  at += (descriptor & 4) === 0 ? 0 : 4;
  return at <= body.length ? at : undefined;
}

interface Inflated {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

/** Return the data of one member. The first byte tells the formats apart: gzip's, zlib's, and DEFLATE without a header. */
function inflateZlib(body: Buffer, how: Inflation, maxBytes: number): Buffer {
  const options = { info: true, maxOutputLength: Math.max(maxBytes, 1) };
  if (body[0] === 0x1f) return inflateGzip(body, how, options);
  const hasHeader = body.length > 0 && (body[0]! & 15) === 8;
  const inflated = (hasHeader ? zlib.inflateSync(body, options) : zlib.inflateRawSync(body, options)) as unknown;
  const { buffer, engine } = inflated as Inflated;
  if (engine.bytesWritten < body.length) throw new Undecodable("data follows the end of the compressed body");
  return buffer;
}

/** Node would read member after member, and millions of empty ones would be a bomb. */
function inflateGzip(body: Buffer, how: Inflation, options: zlib.ZlibOptions): Buffer {
  const start = endOfGzipHeader(body);
  if (start === undefined) throw cutOff(how);
  const { buffer, engine } = zlib.inflateRawSync(body.subarray(start), options) as unknown as Inflated;
  const end = start + engine.bytesWritten;
  if (body.length < end + 8) throw cutOff(how);
  if (body.length > end + 8) throw new Undecodable("data follows the end of the compressed body");
  if (body.readUInt32LE(end) !== zlib.crc32(buffer))
    throw new Undecodable(`the body is not ${how}: incorrect data check`);
  if (body.readUInt32LE(end + 4) !== buffer.length)
    throw new Undecodable(`the body is not ${how}: incorrect length check`);
  return buffer;
}

/** Return where a gzip header ends (RFC 1952), or undefined if the body ends before. */
function endOfGzipHeader(body: Buffer): number | undefined {
  if (body.length < 10) return undefined;
  if (body[1] !== 0x8b || body[2] !== 8) throw new Undecodable("the body is not gzip: incorrect header check");
  const flags = body[3]!;
  let at = 10;
  if (flags & 4) {
    if (body.length < at + 2) return undefined;
    at += 2 + body.readUInt16LE(at);
  }
  for (const flag of [8, 16]) {
    if (flags & flag) {
      const end = body.indexOf(0, at);
      if (end < 0) return undefined;
      at = end + 1;
    }
  }
  at += flags & 2 ? 2 : 0;
  return at <= body.length ? at : undefined;
}
