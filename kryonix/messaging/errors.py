"""Everything that can go wrong for an application: one base class, one class per thing to do about it."""

from __future__ import annotations

__all__ = [
    "AccessRefused",
    "ConfigurationError",
    "MessagingError",
    "NotConnected",
    "NotRoutable",
    "NotSerializable",
    "QueueFull",
    "Reject",
    "Retry",
    "SendTimedOut",
    "StatsUnavailable",
    "UnknownRoute",
]


class MessagingError(Exception):
    """Base of every error of this package.

    `message_id` is the message it is about (None where it is about none), `remedy` says what to do.
    """

    remedy = "Read the message, it says what is wrong"

    def __init__(self, problem: str, *, message_id: str | None = None, remedy: str | None = None) -> None:
        self.problem = problem
        self.message_id = message_id
        if remedy is not None:
            self.remedy = remedy
        about = f"message {message_id}: " if message_id else ""
        super().__init__(f"{about}{problem}. {self.remedy}")


class ConfigurationError(MessagingError):
    """A setting or an argument that can't be used; nothing was sent."""


class NotConnected(MessagingError):
    """No connection to the broker before the deadline. The message was never handed over."""

    remedy = "Check that the broker is up and can be reached, then try again"


class AccessRefused(NotConnected):
    """The broker knows the user, the password or the vhost not, or refuses what was asked for."""

    remedy = "Check user, password and vhost in the AMQP URI; `kryonix tenant credentials ID` prints it"


class UnknownRoute(MessagingError):
    """A module or an action that is not in the catalog; nothing was sent."""


class NotSerializable(MessagingError):
    """Data that can't become a message, or is too large for one; nothing was sent."""


class NotRoutable(MessagingError):
    """The broker has no queue for this module and action: most often the tenant has not bought the module."""

    remedy = "Add the module to the tenant, or consume and send what it has"


class QueueFull(MessagingError):
    """The broker refused the message, because a queue holds as many as it may. It was not stored."""

    remedy = "Wait until consumers have caught up, or add some, then send again"


class SendTimedOut(MessagingError):
    """The broker's answer did not come before the deadline, or was cut off: the message may have been stored or not."""

    remedy = "Send again with the same message_id: a consumer that is idempotent handles it once"


class StatsUnavailable(MessagingError):
    """The figures of the queues can't be read. They are unknown, not zero."""

    remedy = "Check management_url and that the broker's management API can be reached"


class Retry(Exception):
    """Raised by a handler: deliver this message again later, as after any other exception, but without a traceback."""


class Reject(Exception):
    """Raised by a handler: this message can never be handled. It goes to the dead-letter queue at once."""

    def __init__(self, reason: object) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)
