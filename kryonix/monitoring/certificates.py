"""When the certificates of TLS listeners expire."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.errors import ServiceUnreachable
from kryonix.monitoring.exporter import PartlyRead
from kryonix.topology.addresses import host_port

_TIMEOUT_S: Final = 10
_TLS: Final = {"https": 443, "amqps": 5671}


class CertificateUnreadable(ServiceUnreachable):
    """A listener does not answer, or answers without a certificate."""


def tls_endpoints(outputs: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Return the addresses among a stack's outputs that speak TLS, by `host:port`."""
    found: dict[str, tuple[str, int]] = {}
    for value in outputs.values():
        with suppress(ValueError):  # no URL
            parts = urlsplit(value) if isinstance(value, str) else None
            if parts and parts.scheme in _TLS and parts.hostname:
                address = parts.hostname, parts.port or _TLS[parts.scheme]
                found[host_port(*address)] = address
    return found


def certificate_figures(endpoints: Mapping[str, tuple[str, int]]) -> list[Metric]:
    """Return when each endpoint's certificate expires. Raises PartlyRead with the others if one can't be read."""
    expiry = GaugeMetricFamily(
        "kryonix_certificate_expiry_timestamp_seconds", "When the certificate expires.", labels=["endpoint"]
    )
    problems = []
    for name, (host, port) in endpoints.items():
        try:
            expiry.add_metric([name], expires_at(host, port))
        except CertificateUnreadable as error:
            problems.append(str(error))
    if problems:
        raise PartlyRead("; ".join(problems), [expiry])
    return [expiry]


def expires_at(host: str, port: int) -> float:
    """Return when a listener's certificate expires, in seconds since 1970. Raises CertificateUnreadable.

    The certificate is not verified: an expired or self-signed one has a date too. Nothing else is sent or read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
        if certificate is None:
            raise ValueError("no certificate")
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CertificateUnreadable(f"the certificate of {host_port(host, port)} can't be read: {reason}") from error
