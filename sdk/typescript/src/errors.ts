/** The SDK's errors: one base class, one class per remedy. */

/** What an error knows beside its problem. */
export interface ErrorDetails {
  readonly messageId?: string | undefined;
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/**
 * Base of every error of this package.
 *
 * `problem` and `remedy` are the two halves of the text. `messageId` is the id of the message concerned, if there is one.
 */
export class MessagingError extends Error {
  /** The remedy of an error that is made without one. */
  static readonly usualRemedy: string = "See the message for the cause";
  readonly problem: string;
  readonly remedy: string;
  readonly messageId: string | undefined;

  constructor(problem: string, details: ErrorDetails = {}) {
    const remedy = details.remedy ?? new.target.usualRemedy;
    const about = details.messageId ? `message ${details.messageId}: ` : "";
    const stop = problem.endsWith("?") ? "" : ".";
    super(`${about}${problem}${stop} ${remedy}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.problem = problem;
    this.remedy = remedy;
    this.messageId = details.messageId;
  }

  /** Return the same error about a message. */
  about(messageId: string): this {
    const Same = this.constructor as new (problem: string, details: ErrorDetails) => this;
    return new Same(this.problem, { messageId, remedy: this.remedy, cause: this });
  }
}

/** An invalid setting or argument. Nothing was sent. */
export class ConfigurationError extends MessagingError {}

/** No connection to the broker before the deadline. The message was not sent. */
export class NotConnected extends MessagingError {
  static override readonly usualRemedy: string = "Check that the broker is running and reachable, then try again";
}

/** Return the error of a client that has been closed. */
export function closed(): NotConnected {
  return new NotConnected("the client is closed", { remedy: "Connect a new one" });
}

/** The broker refuses the login, the vhost or the operation. */
export class AccessRefused extends NotConnected {
  static override readonly usualRemedy =
    "Check user, password and vhost in the AMQP URI (`kryonix tenant credentials ID` prints it), and that the " +
    "tenant is not suspended";
}

/** The catalog has no such module or action. Nothing was sent. */
export class UnknownRoute extends MessagingError {}

/** The data cannot be encoded, or is too large. Nothing was sent. */
export class NotSerializable extends MessagingError {}

/** The broker has no queue for this module and action, usually because the tenant has not bought the module. */
export class NotRoutable extends MessagingError {
  static override readonly usualRemedy = "Add the module to the tenant, or use one of its modules";
}

/** The queue is at its limit. The broker did not store the message. */
export class QueueFull extends MessagingError {
  static override readonly usualRemedy = "Wait until consumers have caught up, or add consumers, then send again";
}

/** The broker did not confirm before the deadline. It is unknown whether the message was stored. */
export class SendTimedOut extends MessagingError {
  static override readonly usualRemedy = "Send again with the same messageId: an idempotent consumer handles it once";
}

/** The queue figures cannot be read. They are unknown, not zero. */
export class StatsUnavailable extends MessagingError {
  static override readonly usualRemedy = "Check managementUrl, and that the broker's management API is reachable";
}

/** Throw in a handler to retry the message later. It counts as a failure, and is logged without a stack. */
export class Retry extends Error {
  override readonly name = "Retry";
}

/** Throw in a handler to send the message to the dead-letter queue at once. */
export class Reject extends Error {
  override readonly name = "Reject";
  readonly reason: string;

  constructor(reason: unknown) {
    super(String(reason));
    this.reason = this.message;
  }
}
