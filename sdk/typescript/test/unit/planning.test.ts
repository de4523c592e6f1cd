/** Planning and keys of consumers. */

import { expect, test } from "vitest";
import { planPrefetch } from "../../src/consuming/consumer.ts";
import { escaped } from "../../src/consuming/receiver.ts";
import { MemoryIdempotency } from "../../src/idempotency.ts";

test.each([
  // prefetch, concurrency, queues, handlerTimeout, and what is planned: as tests/unit/messaging/test_prefetch.py has it
  [100, 10, 1, 60, { prefetch: 100, within: 86_400 }],
  [100, 10, 1, undefined, { prefetch: 100, within: 86_400 }],
  [200, 1, 1, 3_600, { prefetch: 119, within: 119 * 3_630 }],
  [100, 1, 3, 86_400, { prefetch: 1, within: 3 * 86_430 }],
])(
  "a prefetch of %d for %d at a time fits into the time for an answer",
  (prefetch, places, queues, timeout, planned) => {
    expect(planPrefetch(prefetch, places, queues, timeout)).toEqual(planned);
  },
);

test.each([
  ["lead-17", "lead-17"],
  ["a\\b", "a\\\\b"],
  ["a\tb\nc\rd\0", "a\\tb\\nc\\rd\\x00"],
  ["é€😀", "\\xe9\\u20ac\\U0001f600"],
  ["\x7f'\"", "\\x7f'\""],
])("an id is written in a key as Python's unicode_escape writes it: %j", (id, key) => {
  expect(escaped(id)).toBe(key);
});

test("a claim ends when it is released or its lease is over, and never once it is done", async () => {
  const store = new MemoryIdempotency(2);
  expect(await store.claim("a", 60)).toBe("mine");
  expect(await store.claim("a", 60)).toBe("busy");
  await store.release("a");
  expect(await store.claim("a", 0)).toBe("mine");
  expect(await store.claim("a", 60)).toBe("mine");
  await store.done("a");
  await store.release("b");
  expect(await store.claim("a", 60)).toBe("done");
});

test("the oldest message is forgotten beyond the size", async () => {
  const store = new MemoryIdempotency(2);
  for (const key of ["a", "b", "c"]) await store.claim(key, 60);
  expect(await store.claim("a", 60)).toBe("mine");
  expect(await store.claim("c", 60)).toBe("busy");
});
