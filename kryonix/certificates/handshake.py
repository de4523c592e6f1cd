"""A TLS connection to a listener, for looking at its certificate. Only the standard library: the SDK imports it."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Final, Literal

StartTls = Literal["", "postgres"]
"""How a listener's TLS starts: at once, or after PostgreSQL's request for it."""

_SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
_GOODBYE_S: Final = 1.0


class SpeaksPlain(ssl.SSLError):
    """The listener answers, and refuses TLS."""


def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    starttls: StartTls = "",
    name: str = "",
    timeout: float = 10.0,
) -> ssl.SSLSocket:
    """Return a connection after its handshake. Nothing else is sent or read. `timeout` is in seconds per step.

    `name` is what the certificate has to name, by default the host. Raises OSError, of which ssl.SSLError is one.
    """
    plain = socket.create_connection((host, port), timeout=timeout)
    try:
        if starttls == "postgres":
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise SpeaksPlain(f"{host} has no TLS for PostgreSQL's clients")
        return context.wrap_socket(plain, server_hostname=name or host)
    except BaseException:
        plain.close()
        raise


def goodbye(secured: ssl.SSLSocket) -> None:
    """End TLS as its protocol wants it: RabbitMQ waits 10 s for a client that only closes, and logs an error."""
    secured.settimeout(_GOODBYE_S)
    with suppress(OSError):
        secured.unwrap()
