"""A private CA, which issues certificates of services and clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from kryonix.certificates.leaf import Leaf
from kryonix.errors import InvalidChoice

_CA_DAYS: Final = 3652
_CLOCKS: Final = timedelta(hours=1)
"""How far a client's clock may be behind."""
_LONGEST_CN: Final = 64
_CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_SERVICE: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: its certificate and its key, as PEM."""

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def create(cls, name: str) -> Self:
        """Return a new CA (ECDSA P-256, 10 years), which may issue no further CA.

        CAs that are trusted at the same time need different names, so that every library finds the issuer.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        builder = _builder(subject, subject, key, key.public_key(), _CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        return cls(certificate=_pem(builder.sign(key, hashes.SHA256())), key=_key_pem(key))

    def check(self) -> None:
        """Raise InvalidChoice if the certificate or the key can't be read, or if they don't belong together."""
        try:
            own = x509.load_pem_x509_certificate(self.certificate.encode())
            same = own.public_key() == self._signing_key().public_key()
        except (ValueError, TypeError) as error:
            raise InvalidChoice(f"the CA can't be read: {error}") from error
        if not same:
            raise InvalidChoice("the CA's key is not that of its certificate")

    def issue_server(self, names: Sequence[str], *, days: float = 90) -> Leaf:
        """Return a new certificate of a service, with its key, for host names and IP addresses.

        A service is also a client of others: a broker's node shows it to the nodes that it connects to.
        Raises InvalidChoice if a name is neither, or if there is none.
        """
        if not names:
            raise InvalidChoice("a service's certificate needs at least one host name or IP address")
        common = next((name for name in names if len(name) <= _LONGEST_CN), "kryonix")
        return self._issue(common, [_general_name(name) for name in names], _SERVICE, days)

    def issue_client(self, common_name: str, *, days: float = 90) -> Leaf:
        """Return a new certificate of a client, with its key. Raises InvalidChoice if the name is too long."""
        if not 0 < len(common_name) <= _LONGEST_CN:
            raise InvalidChoice(f"{common_name!r} is not a name for a certificate (1 to {_LONGEST_CN} characters)")
        return self._issue(common_name, [], _CLIENT, days)

    def _issue(
        self, common_name: str, names: Sequence[x509.GeneralName], purposes: Sequence[ObjectIdentifier], days: float
    ) -> Leaf:
        own = x509.load_pem_x509_certificate(self.certificate.encode())
        signing, key = self._signing_key(), ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(common_name), own.subject, key, signing.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Leaf(chain=_pem(builder.sign(signing, hashes.SHA256())), key=_key_pem(key))

    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self.key.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidChoice("the CA's key is not of an elliptic curve: it is not one that Kryonix made")
        return key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: float,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Return the uses of a leaf's key, which signs handshakes, or those of a CA's, which signs certificates."""
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass  # a host name
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise InvalidChoice(f"{name!r} is neither a host name in ASCII nor an IP address") from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
