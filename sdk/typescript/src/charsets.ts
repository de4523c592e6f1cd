/** Text in the charsets that other applications use. */

/** Decode bytes, or throw an error with the position of the first wrong byte where it is known. */
export type TextReader = (body: Buffer) => string;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Return a charset's name as this module knows it, and its reader; undefined for an unknown one. */
export function charsetOf(label: string): { readonly name: string; readonly read: TextReader } | undefined {
  const plain = label.trim().toLowerCase().replaceAll("_", "-");
  switch (plain) {
    case "utf-8":
    case "utf8":
    case "u8":
    case "utf-8-sig":
      return { name: "utf-8", read: (body) => utf8.decode(body) };
    case "ascii":
    case "us-ascii":
    case "646":
      return { name: "ascii", read: readAscii };
    case "latin-1":
    case "latin1":
    case "l1":
    case "iso-8859-1":
    case "iso8859-1":
    case "8859":
    case "cp819":
      return { name: "iso-8859-1", read: (body) => body.toString("latin1") };
    case "windows-1252":
    case "cp1252":
    case "cp-1252":
    case "1252":
      return { name: "windows-1252", read: readWindows1252 };
    case "utf-16":
    case "utf16":
    case "u16":
      return {
        name: "utf-16",
        read: (body) => readUtf16(body, startsWith(body, 0xfe, 0xff) ? "utf-16be" : "utf-16le"),
      };
    case "utf-32":
    case "utf32":
    case "u32":
      return { name: "utf-32", read: (body) => readUtf32(body, !startsWith(body, 0, 0, 0xfe, 0xff)) };
    case "utf-32-le":
    case "utf-32le":
    case "utf-32-be":
    case "utf-32be":
      return { name: plain, read: (body) => readUtf32(body, plain.endsWith("le")) };
    case "utf-16-le":
    case "utf-16-be":
      return charsetOf(plain.replace("-16-", "-16"));
  }
  try {
    const known = plain.replace(/^(?:cp|windows)-?(\d+)$/, "windows-$1").replace(/^iso8859/, "iso-8859");
    const decoder = new TextDecoder(known, { fatal: true, ignoreBOM: true });
    return { name: decoder.encoding, read: (body) => decoder.decode(body) };
  } catch {
    return undefined;
  }
}

/** Return the charset that JSON without a stated one is in, by its first bytes (RFC 4627). */
export function charsetOfJson(body: Buffer): string {
  if (startsWith(body, 0, 0, 0xfe, 0xff) || startsWith(body, 0xff, 0xfe, 0, 0)) return "utf-32";
  if (startsWith(body, 0xfe, 0xff) || startsWith(body, 0xff, 0xfe)) return "utf-16";
  if (startsWith(body, 0xef, 0xbb, 0xbf)) return "utf-8";
  const [first, second, third, fourth] = body;
  if (body.length >= 4) {
    if (first === 0) return second === 0 ? "utf-32-be" : "utf-16-be";
    if (second === 0) return third === 0 && fourth === 0 ? "utf-32-le" : "utf-16-le";
  } else if (body.length === 2) {
    if (first === 0) return "utf-16-be";
    if (second === 0) return "utf-16-le";
  }
  return "utf-8";
}

/** Return the position of the first byte that is not UTF-8; undefined if all are. */
export function wrongUtf8(body: Buffer): number | undefined {
  let [good, bad] = [0, body.length + 1];
  if (isUtf8(body)) return undefined;
  // The longest right beginning, give or take a character that is cut off at its end.
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (isUtf8(body.subarray(0, middle), true)) good = middle;
    else bad = middle;
  }
  while (good > 0 && !isUtf8(body.subarray(0, good))) good--;
  return good;
}

function isUtf8(body: Buffer, stream = false): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(body, { stream });
    return true;
  } catch {
    return false;
  }
}

function startsWith(body: Buffer, ...bytes: number[]): boolean {
  return bytes.every((byte, at) => body[at] === byte);
}

function readAscii(body: Buffer): string {
  const wrong = body.findIndex((byte) => byte > 127);
  if (wrong >= 0) throw new RangeError(`byte ${wrong}`);
  return body.toString("latin1");
}

/** The characters of 0x80 to 0x9f; a space stands for none. Node's own reader drops a 0xff at the beginning. */
const WINDOWS_1252 = "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ";

function readWindows1252(body: Buffer): string {
  return body.toString("latin1").replace(/[\x80-\x9f]/g, (letter, at: number) => {
    const character = WINDOWS_1252[letter.charCodeAt(0) - 0x80]!;
    if (character === " ") throw new RangeError(`byte ${at}`);
    return character;
  });
}

function readUtf16(body: Buffer, encoding: string): string {
  return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(body);
}

function readUtf32(body: Buffer, little: boolean): string {
  if (body.length % 4 !== 0) throw new RangeError(`byte ${body.length - (body.length % 4)}`);
  const parts: string[] = [];
  for (let at = 0; at < body.length; at += 4) {
    const point = little ? body.readUInt32LE(at) : body.readUInt32BE(at);
    if (point > 0x10_ffff || (point >= 0xd800 && point < 0xe000)) throw new RangeError(`byte ${at}`);
    parts.push(String.fromCodePoint(point));
  }
  return parts.join("");
}
