"""Errors of aiormq and the operating system, sorted by remedy."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq import exceptions as amqp

from kryonix.certificates.trust import why
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import AccessRefused, NotConnected
from kryonix.topology.addresses import host_port

BROKEN: Final = (amqp.AMQPError, OSError, RuntimeError, EOFError)
"""Errors of an unusable connection or channel. RuntimeError is aiormq's "closed"."""

_REFUSED: Final = (amqp.AuthenticationError, amqp.ProbableAuthenticationError, amqp.ChannelAccessRefused)
_PLAIN: Final = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|UNKNOWN_PROTOCOL")
"""What OpenSSL, by its version, calls an answer that is not TLS."""
_ALERT: Final = re.compile(r"Read 0 bytes but 131[3-8]\d\d bytes expected")
"""A TLS alert, whose bytes (version, length 2, level, description) aiormq takes for the size of a frame."""
_OWN: Final = re.compile(r"ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+)")
"""A broker's alert on the certificate that the client shows."""
_OWN_FAULTS: Final = {
    "UNKNOWN_CA": "wrong CA: none that the broker trusts issued it",
    "CERTIFICATE_EXPIRED": "expired, or not yet valid",
    "BAD_CERTIFICATE": "self-signed, or broken",
}
_REMEDY_OWN: Final = (
    "Use the newest file of `kryonix tenant credentials ID --output FILE`, and check the clocks. An operator issues "
    "another certificate with `kryonix tenant rotate ID`"
)
_NONE: Final = "connection limit (0) is reached"
_UNKNOWN: Final = "connection limit cannot be queried"
"""The broker's words where it does not know: another node may, or the same one soon."""
_REMEDY_TRUST: Final = (
    "Trusted are the CA of the credentials' file, or the one in ca_file or KRYONIX_CA_FILE, or else the system's"
)
_REMEDY_SHUT: Final = (
    "An operator can check with `kryonix tenant list` whether it is suspended, and end that with "
    "`kryonix tenant resume`. Otherwise close unused connections, and check user and vhost in the AMQP URI"
)


def not_connected(address: Address, error: BaseException) -> NotConnected:
    """Return the SDK's error for a failed connection."""
    place = address.place
    if isinstance(error, asyncio.CancelledError):
        return NotConnected(f"the connection to {place} was silent for too long")
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, _REFUSED):
        return AccessRefused(f"{place} refuses the connection ({reason})")
    if isinstance(error, amqp.ConnectionNotAllowed) and _UNKNOWN not in reason:
        suspended = "the tenant is suspended: " if _NONE in reason else ""
        problem = f"{place} does not let {address.username} in: {suspended}{str(error).removeprefix('NOT_ALLOWED - ')}"
        return AccessRefused(problem, remedy=_REMEDY_SHUT)
    cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    if _PLAIN.search(str(cause)):
        remedy = "Use the TLS port, 5671 by default, or amqp:// for a connection without TLS"
        return AccessRefused(f"{place}: this port has no TLS ({reason})", remedy=remedy)
    if _ALERT.search(str(error)):
        remedy = "Write amqps:// in the AMQP URI, or use the port without TLS, 5672 by default"
        return AccessRefused(f"{place}: this port has TLS, and amqp:// is without it", remedy=remedy)
    if own := _OWN.search(str(cause)):
        fault = _OWN_FAULTS.get(own[1], own[1].lower().replace("_", " "))
        return AccessRefused(f"{place} refuses the client certificate: {fault}", remedy=_REMEDY_OWN)
    if fault := why(error, host_port(address.host, address.port)):
        told, _, remedy = fault.partition(". ")
        return AccessRefused(f"{place}: {told}", remedy=f"{remedy}. {_REMEDY_TRUST}")
    if isinstance(cause, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        return AccessRefused(f"the certificate of {place} is not accepted ({reason})", remedy=_REMEDY_TRUST)
    return NotConnected(f"no connection to {place} ({reason})")


def is_of_connection(error: BaseException) -> bool:
    """Return True if the connection is gone, False if one request over it has failed."""
    if isinstance(error, (OSError, EOFError, asyncio.CancelledError, amqp.ProtocolSyntaxError)):
        return True
    return type(error) is RuntimeError or isinstance(error, amqp.ChannelInvalidStateError)


@contextmanager
def translate_amqp_errors() -> Iterator[None]:
    """Raise ConnectionError where aiormq cancels the tasks waiting on a channel it closes.

    A cancellation of this very task shows in cancelling(), and passes.
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
        # aiormq raises a bare one to tasks waiting on a channel that ends without a reason.
        raise ConnectionError("the connection was closed") from error


def too_large(error: BaseException) -> int | None:
    """Return the broker's limit in bytes if it has closed the channel for a larger body, else None.

    Every task on the channel gets this error: it concerns larger messages only.
    """
    if not isinstance(error, amqp.ChannelPreconditionFailed):
        return None
    found = re.search(r"larger than (?:configured )?max size (\d+)", str(error))
    return None if found is None else int(found[1])
