"""What aio-pika and the operating system raise, told apart by what can be done about it."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq import exceptions as amqp

from kryonix.messaging.errors import AccessRefused, NotConnected

__all__ = ["BROKEN", "REFUSED", "is_of_connection", "not_connected", "told_apart", "too_large"]

BROKEN: Final = (amqp.AMQPError, OSError, RuntimeError, EOFError)
"""What a connection or channel may raise that is not, or no longer, usable. RuntimeError is aiormq's "closed"."""

_REMEDY_SHUT: Final = (
    "An operator sees with `kryonix tenant list` whether it is suspended, and ends that with `kryonix tenant resume`. "
    "If it is not, close connections that are not needed, and check user and vhost in the AMQP URI"
)

REFUSED: Final = (
    amqp.AuthenticationError,
    amqp.ProbableAuthenticationError,
    amqp.ConnectionNotAllowed,
    amqp.ChannelAccessRefused,
)


def not_connected(place: str, username: str, error: BaseException) -> NotConnected:
    """Why there is no connection, as this package says it."""
    if isinstance(error, asyncio.CancelledError):
        return NotConnected(f"the connection to {place} was silent for too long")
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, REFUSED):
        return AccessRefused(f"{place} refuses the connection ({reason})")
    if isinstance(error, amqp.InvalidFrameError) and "Connection.OpenOk" in reason:
        # The broker closed instead of opening; aiormq keeps its words to itself.
        problem = (
            f"{place} does not let {username} in: the tenant is suspended, or has all the connections its plan allows, "
            "or there is no such vhost, or the user has no permission there"
        )
        return AccessRefused(problem, remedy=_REMEDY_SHUT)
    cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    if isinstance(cause, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        remedy = "Connect to the name in the certificate, and pass ssl_context where its authority is your own"
        return AccessRefused(f"the certificate of {place} is not accepted ({reason})", remedy=remedy)
    return NotConnected(f"no connection to {place} ({reason})")


def is_of_connection(error: BaseException) -> bool:
    """Whether it is the connection that is gone, and not one thing that was asked for over it."""
    if isinstance(error, (OSError, EOFError, asyncio.CancelledError, amqp.ProtocolSyntaxError)):
        return True
    return type(error) is RuntimeError or isinstance(error, amqp.ChannelInvalidStateError)


@contextmanager
def told_apart() -> Iterator[None]:
    """Raise what aiormq cancels as the broken connection it is: what waits on a channel that it closes, it cancels.

    Who has cancelled this very task shows in cancelling(), and stays cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was closed") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # A bare one is what aiormq gives to those who wait for an answer on a channel that ends without a reason.
        raise ConnectionError("the connection was closed") from error


def too_large(error: BaseException) -> int | None:
    """The largest body the broker takes (bytes), where that is what it has closed the channel for.

    Everybody on the channel gets this error: it is about those messages only that are larger.
    """
    if not isinstance(error, amqp.ChannelPreconditionFailed):
        return None
    found = re.search(r"larger than (?:configured )?max size (\d+)", str(error))
    return None if found is None else int(found[1])
