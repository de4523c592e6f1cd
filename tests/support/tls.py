"""Certificates with one fault each, and little servers that serve them."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import MSG_PEEK, create_server, socket
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key, made here and not by the code under test."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def pair(name: str, issuer: Pair | None = None, *, names: Sequence[str] = (), starts: int = -1, ends: int = 90) -> Pair:
    """Return a certificate, self-signed without an issuer, a CA without names. Times are in days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=starts))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
    return Pair(certificate=builder.sign(signing, hashes.SHA256()), key=key)


def _name(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(text)) if text[0].isdigit() or ":" in text else x509.DNSName(text)


CA = pair("a CA")


def faulty(fault: str) -> Pair | None:
    """Return a certificate with a fault; None for a server without TLS."""
    match fault:
        case "good":
            return pair("good", CA, names=[HOST])
        case "wrong CA":
            return pair("other", pair("a CA"), names=[HOST])
        case "expired":
            return pair("expired", CA, names=[HOST], starts=-10, ends=-1)
        case "not yet valid":
            return pair("future", CA, names=[HOST], starts=2)
        case "wrong host":
            return pair("elsewhere", CA, names=["elsewhere.example", "10.9.8.7"])
        case "self-signed":
            return pair("alone", names=[HOST])
    return None


FAULTS = ("wrong CA", "expired", "not yet valid", "wrong host", "self-signed", "plain")


@contextmanager
def serving(served: Pair | None) -> Iterator[int]:
    """Serve a certificate on a port of 127.0.0.1, at once or after PostgreSQL's request; None: without TLS."""
    context = None
    if served is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "server.pem"
            file.write_text(served.key_pem + served.pem)
            context.load_cert_chain(file)
    with create_server((HOST, 0)) as listener:
        thread = Thread(target=_accept, args=(listener, context), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(2)
            thread.join()


def _accept(listener: socket, context: ssl.SSLContext | None) -> None:
    with suppress(OSError):  # ends when the listener is shut down
        while True:
            connection, _ = listener.accept()
            connection.settimeout(10)
            with suppress(OSError), connection:
                _answer(connection, context)


def _answer(connection: socket, context: ssl.SSLContext | None) -> None:
    if connection.recv(8, MSG_PEEK) == _SSL_REQUEST:
        connection.recv(8)
        connection.sendall(b"S" if context else b"N")
    if context is None:
        connection.recv(4096)
        connection.sendall(b"AMQP\x00\x00\x09\x01")  # what RabbitMQ says to a client of another protocol
        return
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(4096)
        secured.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
