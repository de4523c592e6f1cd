/** Ids of messages: UUIDs of version 4, as 32 hexadecimal digits. */

import { randomFillSync } from "node:crypto";

const ID_BYTES = 16;
const pool = Buffer.alloc(256 * ID_BYTES);
let at = pool.length;

/** Return a new id. Random bytes are drawn for many at once: a draw takes longer than the rest. */
export function newId(): string {
  if (at === pool.length) {
    randomFillSync(pool);
    at = 0;
  }
  pool[at + 6] = (pool[at + 6]! & 0x0f) | 0x40;
  pool[at + 8] = (pool[at + 8]! & 0x3f) | 0x80;
  const id = pool.toString("hex", at, at + ID_BYTES);
  at += ID_BYTES;
  return id;
}
