/** The SDK's log: what it does by itself, such as a connection that is replaced. */

import { thrown } from "./checks.ts";

/** Where entries go. `error` is the error that an entry is about. */
export interface Logger {
  info(text: string): void;
  warn(text: string, error?: unknown): void;
  error(text: string, error?: unknown): void;
}

function write(level: string, text: string, error?: unknown): void {
  // A handler can throw anything: a text has no stack.
  const detail = error instanceof Error ? (error.stack ?? error.message) : thrown(error);
  process.stderr.write(`${level} kryonix.messaging: ${text}${error === undefined ? "" : `\n${detail}`}\n`);
}

/** The default: warnings and errors, to standard error. */
export const standardLogger: Logger = {
  info: () => undefined,
  warn: (text, error) => write("warning", text, error),
  error: (text, error) => write("error", text, error),
};
