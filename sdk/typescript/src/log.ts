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
  const detail = error instanceof Error ? (error.stack ?? thrown(error)) : thrown(error);
  process.stderr.write(`${level} kryonix.messaging: ${text}${error === undefined ? "" : `\n${detail}`}\n`);
}

/** The default: warnings and errors, to standard error. */
export const standardLogger: Logger = {
  info: () => undefined,
  warn: (text, error) => write("warning", text, error),
  error: (text, error) => write("error", text, error),
};

/** Return a logger that neither throws nor rejects: what is logged must not depend on it. */
export function guarded(logger: Logger): Logger {
  const guard = (level: keyof Logger) => (text: string, error?: unknown) => {
    const failed = (failure: unknown) => write("error", `the logger failed: ${thrown(failure)}`);
    try {
      const done: unknown = error === undefined ? logger[level](text) : logger[level](text, error);
      if (done instanceof Promise) done.catch(failed);
    } catch (failure) {
      failed(failure);
    }
  };
  return { info: guard("info"), warn: guard("warn"), error: guard("error") };
}
