"""What aio-pika and the operating system raise, told apart by what can be done about it."""

from __future__ import annotations

import ssl
from typing import Final

from aiormq import exceptions as amqp

from kryonix.messaging.errors import AccessRefused, NotConnected

__all__ = ["BROKEN", "REFUSED", "not_connected"]

BROKEN: Final = (amqp.AMQPError, OSError, RuntimeError, EOFError)
"""What a connection or channel may raise that is not, or no longer, usable. RuntimeError is aiormq's "closed"."""

REFUSED: Final = (
    amqp.AuthenticationError,
    amqp.ProbableAuthenticationError,
    amqp.ConnectionNotAllowed,
    amqp.ChannelAccessRefused,
)


def not_connected(place: str, error: BaseException) -> NotConnected:
    """Why there is no connection, as this package says it."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, REFUSED) or (isinstance(error, amqp.ConnectionClosed) and "530" in str(error)):
        return AccessRefused(f"{place} refuses the connection ({reason})")
    cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    if isinstance(cause, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        remedy = "Connect to the name in the certificate, and pass ssl_context where its authority is your own"
        return AccessRefused(f"the certificate of {place} is not accepted ({reason})", remedy=remedy)
    return NotConnected(f"no connection to {place} ({reason})")
