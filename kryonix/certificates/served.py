"""The certificate that a listener serves now."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kryonix.certificates.handshake import StartTls, connect, goodbye
from kryonix.certificates.leaf import names_of
from kryonix.certificates.trust import why
from kryonix.errors import ServiceUnreachable
from kryonix.topology.addresses import host_port


class CertificateUnreadable(ServiceUnreachable):
    """A listener does not answer, or answers without a certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a listener's certificate says. It is not verified: an expired or self-signed one says as much."""

    serial: int
    expires: datetime
    names: tuple[str, ...]
    issuer: str
    """The issuer's name, as in `CN=Kryonix prod CA 1`."""
    pem: str


def served(host: str, port: int, *, starttls: StartTls = "", name: str = "", timeout: float = 10.0) -> Served:
    """Return the certificate that a listener serves. Raises CertificateUnreadable. `timeout` is in seconds per step.

    `name` is the host name to ask for, by default the host's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with connect(host, port, context, starttls=starttls, name=name, timeout=timeout) as secured:
            found = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
            goodbye(secured)
    except (OSError, ValueError) as error:
        reason = why(error, host) or getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CertificateUnreadable(f"the certificate of {host_port(host, port)} can't be read: {reason}") from error
    return Served(
        serial=found.serial_number,
        expires=found.not_valid_after_utc,
        names=names_of(found),
        issuer=found.issuer.rfc4514_string(),
        pem=found.public_bytes(Encoding.PEM).decode(),
    )
