"""A service's certificate with its key: what it says, and whether a client would accept it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kryonix.certificates.trust import context, show
from kryonix.errors import InvalidChoice

_ROUNDS: Final = 8
"""More turns than a handshake of any version takes."""


class CertificateRejected(InvalidChoice):
    """A certificate that clients would not accept. What is in place stays."""


class WrongHost(CertificateRejected):
    """A certificate that is valid, for other names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """The certificate of a service with its intermediates, and its key, all as PEM."""

    chain: str
    """The certificate itself first. The root is not part of it."""
    key: str = field(repr=False)

    @classmethod
    def read(cls, pem: str) -> Self:
        """Return the certificate, intermediates and key of one PEM text. Raises CertificateRejected."""
        try:
            chain = x509.load_pem_x509_certificates(pem.encode())
        except ValueError as error:
            raise CertificateRejected(f"there is no certificate in PEM: {error}") from error
        try:
            key = load_pem_private_key(_key_block(pem).encode(), password=None)
        except TypeError as error:
            raise CertificateRejected("the key has a passphrase, and a service can't ask for it: remove it") from error
        except ValueError as error:
            raise CertificateRejected("there is no private key in PEM that can be read") from error
        return cls(
            chain="".join(each.public_bytes(Encoding.PEM).decode() for each in chain),
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        )

    @property
    def pem(self) -> str:
        """The key and the certificates in one text, so that one rename changes both."""
        return self.key + self.chain

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return x509.load_pem_x509_certificate(self.chain.encode())

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def names(self) -> tuple[str, ...]:
        """The host names and IP addresses for which it is issued."""
        return names_of(self.certificate)

    @property
    def starts(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def expires(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def due(self, now: datetime) -> bool:
        """Return True if two thirds of its life are over, so that it is time for the next one."""
        return now >= self.starts + (self.expires - self.starts) * 2 / 3

    def issued_by(self, authority: str) -> bool:
        """Return True if the CA with this certificate (PEM) has signed it, or an intermediate of its chain."""
        issuer = x509.load_pem_x509_certificate(authority.encode())
        return any(_signed(each, issuer) for each in x509.load_pem_x509_certificates(self.chain.encode()))

    def check(self, trust: str, names: Iterable[str], now: datetime) -> None:
        """Raise CertificateRejected unless a client that trusts a bundle (PEM) accepts it under each of the names.

        A handshake in memory decides, so OpenSSL's rules apply. `now` is when it has to be valid.
        """
        for each in x509.load_pem_x509_certificates(self.chain.encode()):
            _check_time(each, now)
        self._check_key()
        server, client = self._server(), context(trust)
        for name in names:
            try:
                _shake_hands(server, client, name)
            except ssl.SSLCertVerificationError as error:
                raise self._rejected(error, name) from error

    def _check_key(self) -> None:
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        own = load_pem_private_key(self.key.encode(), password=None).public_key().public_bytes(*form)
        if own != self.certificate.public_key().public_bytes(*form):
            raise CertificateRejected("the key is not the certificate's: give the key that it was requested with")

    def _server(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            show(made, self.pem)
        except ssl.SSLError as error:
            raise CertificateRejected(f"OpenSSL does not take the certificate: {error.reason or error}") from error
        return made

    def _rejected(self, error: ssl.SSLCertVerificationError, name: str) -> CertificateRejected:
        match error.verify_code:
            case 62 | 64:
                return WrongHost(f"wrong host: it is issued for {', '.join(self.names) or 'no name'}, not for {name}")
            case 18:
                return CertificateRejected("self-signed: no CA issued it, and it is not trusted itself")
            case 2 | 7 | 19 | 20 | 21:
                issuer = self.certificate.issuer.rfc4514_string()
                remedy = "its intermediates or the CA's certificate are missing"
                return CertificateRejected(f"not issued by a trusted CA, but by {issuer}: {remedy}")
        return CertificateRejected(f"not valid: {error.verify_message}")


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names and IP addresses for which a certificate is issued."""
    with suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            *found.get_values_for_type(x509.DNSName),
            *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
        )
    return ()


def _key_block(pem: str) -> str:
    """Return the block of the private key, or nothing."""
    lines = pem.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("-----BEGIN ") and "PRIVATE KEY-----" in line]
    return "\n".join(lines[starts[0] :]) if starts else ""


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_time(certificate: x509.Certificate, now: datetime) -> None:
    name = certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise CertificateRejected(
            f"expired: {name} was valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    if now < certificate.not_valid_before_utc:
        start = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise CertificateRejected(f"not yet valid: {name} is valid from {start}: check this machine's clock")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Connect a client to a server in memory. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides: Sequence[ssl.SSLObject] = (
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(_ROUNDS):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
