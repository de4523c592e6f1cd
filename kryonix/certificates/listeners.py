"""The listeners with TLS among a platform's outputs, and what a client makes of their certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from kryonix.certificates.handshake import StartTls, connect, goodbye
from kryonix.certificates.served import CertificateUnreadable, Served, served
from kryonix.certificates.trust import context, why
from kryonix.topology.addresses import host_port

_TLS: Final = {"https": 443, "amqps": 5671}
_POSTGRES: Final = ("postgres", "postgresql")
_WITH_TLS: Final = {"require", "verify-ca", "verify-full"}
_AMQP: Final = ("amqp_addresses", "balancer_address")
"""Outputs that are HOST:PORT, for TLS where the management API has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """The address of a listener with TLS."""

    host: str
    port: int
    starttls: StartTls = ""

    def __str__(self) -> str:
        return host_port(self.host, self.port)

    def served(self) -> Served:
        """Return the certificate that it serves, accepted or not. Raises CertificateUnreadable."""
        return served(self.host, self.port, starttls=self.starttls)

    def refused(self, ca: str) -> str | None:
        """Return why a client that trusts a bundle (PEM; empty: the system's) refuses it; None if it is accepted.

        Raises CertificateUnreadable if it does not answer.
        """
        try:
            with connect(self.host, self.port, context(ca), starttls=self.starttls) as secured:
                goodbye(secured)
        except ssl.SSLError as error:
            return why(error, self.host) or str(error)
        except OSError as error:
            raise CertificateUnreadable(f"{self} does not answer: {error.strerror or error}") from error
        return None


def listeners_of(outputs: Mapping[str, Any]) -> dict[str, Listener]:
    """Return the listeners with TLS among a stack's outputs, by HOST:PORT: brokers, registry and HTTP services."""
    found = [listener for value in outputs.values() for text in _texts(value) if (listener := listener_of(text))]
    if str(outputs.get("management_url", "")).startswith("https:"):
        for address in (address for key in _AMQP for address in _texts(outputs.get(key))):
            found += [listener] if (listener := listener_of(f"amqps://{address}")) else []
    return {str(each): each for each in found}


def listener_of(url: str) -> Listener | None:
    """Return the listener of an `https`, `amqps` or `postgresql` URL; None if it says nothing of TLS."""
    with suppress(ValueError):  # no URL
        parts = urlsplit(url)
        if parts.hostname and parts.scheme in _TLS:
            return Listener(host=parts.hostname, port=parts.port or _TLS[parts.scheme])
        if parts.hostname and parts.scheme in _POSTGRES and _WITH_TLS & {*parse_qs(parts.query).get("sslmode", [])}:
            return Listener(host=parts.hostname, port=parts.port or 5432, starttls="postgres")
    return None


def _texts(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str):
            yield each
