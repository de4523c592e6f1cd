import { expect, test, vi } from "vitest";
import { AccessRefused, MessagingError, NotConnected, QueueFull, Reject } from "../../src/errors.ts";
import { standardLogger } from "../../src/log.ts";

test("an error's text is the message, the problem and the remedy", () => {
  const error = new QueueFull("the queue crm.leads is full", { messageId: "m-1" });
  expect(error.message).toBe(
    "message m-1: the queue crm.leads is full. Wait until consumers have caught up, or add consumers, then send again",
  );
  expect(error.name).toBe("QueueFull");
});

test("a question needs no full stop", () => {
  expect(new MessagingError("which?", { remedy: "Say it" }).message).toBe("which? Say it");
});

test("a refused login is a missing connection with its own remedy", () => {
  const error = new AccessRefused("refused");
  expect(error).toBeInstanceOf(NotConnected);
  expect(error.remedy).toContain("kryonix tenant credentials");
});

test("an error about a message keeps class, problem, remedy and cause", () => {
  const first = new AccessRefused("refused", { remedy: "Ask" });
  const second = first.about("m-2");
  expect(second).toBeInstanceOf(AccessRefused);
  expect(second).toMatchObject({ messageId: "m-2", problem: "refused", remedy: "Ask", cause: first });
});

test("a rejection has its reason as text", () => {
  expect(new Reject(17).reason).toBe("17");
});

test.each([
  ["a text", "warning kryonix.messaging: it failed\n'a text'\n"],
  [undefined, "warning kryonix.messaging: it failed\n"],
])("the log shows what was thrown, even if it is no error: %j", (reason, text) => {
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  standardLogger.warn("it failed", reason);
  expect(write).toHaveBeenCalledExactlyOnceWith(text);
  write.mockRestore();
});
