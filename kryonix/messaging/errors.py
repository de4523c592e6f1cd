"""The SDK's errors: one base class, one class per remedy."""

from __future__ import annotations

from kryonix.errors import KryonixError


class MessagingError(KryonixError):
    """Base of every error of this package.

    `problem` and `remedy` are the two halves of the text. `message_id` is the id of the message concerned, or None.
    """

    remedy = "See the message for the cause"

    def __init__(self, problem: str, *, message_id: str | None = None, remedy: str | None = None) -> None:
        self.problem = problem
        self.message_id = message_id
        if remedy is not None:
            self.remedy = remedy
        about = f"message {message_id}: " if message_id else ""
        stop = "" if problem.endswith("?") else "."
        super().__init__(f"{about}{problem}{stop} {self.remedy}")


class ConfigurationError(MessagingError):
    """An invalid setting or argument. Nothing was sent."""

    exit_status = 2


class NotConnected(MessagingError):
    """No connection to the broker before the deadline. The message was not sent."""

    exit_status = 3
    remedy = "Check that the broker is running and reachable, then try again"


class AccessRefused(NotConnected):
    """The broker refuses the login, the vhost or the operation."""

    remedy = (
        "Check user, password and vhost in the AMQP URI (`kryonix tenant credentials ID` prints it), and that the "
        "tenant is not suspended"
    )


class UnknownRoute(MessagingError):
    """The catalog has no such module or action. Nothing was sent."""

    exit_status = 2


class NotSerializable(MessagingError):
    """The data cannot be encoded, or is too large. Nothing was sent."""

    exit_status = 2


class NotRoutable(MessagingError):
    """The broker has no queue for this module and action, usually because the tenant has not bought the module."""

    remedy = "Add the module to the tenant, or use one of its modules"


class QueueFull(MessagingError):
    """The queue is at its limit. The broker did not store the message."""

    remedy = "Wait until consumers have caught up, or add consumers, then send again"


class SendTimedOut(MessagingError):
    """The broker did not confirm before the deadline. It is unknown whether the message was stored."""

    remedy = "Send again with the same message_id: an idempotent consumer handles it once"


class StatsUnavailable(MessagingError):
    """The queue figures cannot be read. They are unknown, not zero."""

    exit_status = 3
    remedy = "Check management_url, and that the broker's management API is reachable"


class Retry(Exception):
    """Raise in a handler to retry the message later. It counts as a failure, and is logged without a traceback."""


class Reject(Exception):
    """Raise in a handler to send the message to the dead-letter queue at once."""

    def __init__(self, reason: object) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)
