"""The expiry of certificates of real TLS listeners."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, generate_latest

from kryonix.monitoring.certificates import certificate_figures, tls_endpoints
from kryonix.monitoring.exporter import Exporter

ENDS = datetime(2020, 1, 2, tzinfo=UTC)
"""In the past: an expired certificate has a date too."""


def certificate(folder: Path) -> Path:
    """Write an expired self-signed certificate with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ENDS - timedelta(days=1))
        .not_valid_after(ENDS)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file


@contextmanager
def listening(folder: Path | None) -> Iterator[int]:
    """Serve HTTP, with TLS if there is a folder for its certificate; the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_expiry_is_served_and_a_listener_without_tls_counted(tmp_path: Path) -> None:
    with listening(tmp_path) as secure, listening(None) as plain:
        outputs = {
            "management_url": f"https://127.0.0.1:{secure}",
            "events_uri": f"amqps://user:a-secret@127.0.0.1:{plain}/vhost",
            "metrics_url": "http://127.0.0.1:9419/metrics",
            "amqp_port": 5672,
        }
        exporter = Exporter({"certificates main": lambda: certificate_figures(tls_endpoints(outputs))}, 900)
        exporter.read()
    registry = CollectorRegistry()
    registry.register(exporter)
    text = generate_latest(registry).decode()
    (line,) = [each for each in text.splitlines() if each.startswith("kryonix_certificate_expiry_timestamp_seconds{")]
    name, _, value = line.partition(" ")
    assert name == f'kryonix_certificate_expiry_timestamp_seconds{{endpoint="127.0.0.1:{secure}"}}'
    assert float(value) == ENDS.timestamp()
    assert 'kryonix_exporter_source_readable{source="certificates main"} 0.0' in text
    assert 'kryonix_exporter_source_failures_total{source="certificates main"} 1.0' in text
    assert "a-secret" not in text


def test_a_platform_without_tls_is_readable_and_has_no_series() -> None:
    (family,) = certificate_figures(tls_endpoints({"management_url": "http://127.0.0.1:15672"}))
    assert family.samples == []


@pytest.mark.parametrize("value", ["https://[::1", "https://", "messaging.example.com", 5671, None, "amqp://a/b"])
def test_an_output_without_tls_is_no_endpoint(value: object) -> None:
    assert tls_endpoints({"any": value}) == {}


def test_an_endpoint_has_its_schemes_port_by_default() -> None:
    outputs = {"page": "https://example.com/page", "broker": "amqps://user:secret@[::1]/vhost"}
    assert tls_endpoints(outputs) == {"example.com:443": ("example.com", 443), "[::1]:5671": ("::1", 5671)}
