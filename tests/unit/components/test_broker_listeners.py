"""The broker's listeners: plain as they were, or TLS and nothing else."""

from __future__ import annotations

import re
import ssl

import pytest

from components.acme_settings import AcmeSettings
from components.broker_listeners import ENCRYPTED, PLAIN, listeners_of
from components.tls_settings import TlsSettings
from tests.support.tls import CA


def test_plain_listeners_are_as_older_versions_made_them() -> None:
    text = PLAIN.configuration
    for line in ("listeners.tcp.default = 5672", "management.tcp.port = 15672", "prometheus.tcp.port = 15692"):
        assert f"\n{line}\n" in text
    assert "ssl" not in text
    assert (PLAIN.more_files, PLAIN.inputs) == ({}, {})
    labels = PLAIN.routes("kryonix-dev-rabbitmq", "example.com")
    assert labels["traefik.tcp.routers.kryonix-dev-rabbitmq.tls.certresolver"] == "letsencrypt"
    assert labels["traefik.http.services.kryonix-dev-rabbitmq-mgmt.loadbalancer.server.port"] == "15672"


def test_encrypted_listeners_are_the_only_ones() -> None:
    lines = [line for line in ENCRYPTED.configuration.splitlines() if not line.startswith("#")]
    assert [line for line in lines if ".tcp" in line and "tcp_listen" not in line] == ["listeners.tcp = none"]
    assert "{rabbitmq_prometheus, [{tcp_config, []}]}" in ENCRYPTED.more_files["advanced.config"]
    versions = [line.split(" = ")[1] for line in lines if ".versions." in line]
    assert versions == ["tlsv1.3", "tlsv1.2"] * 3


def test_a_public_name_gets_another_certificate_and_all_other_options_stay() -> None:
    """A key of advanced.config replaces the one of rabbitmq.conf whole."""
    acme = AcmeSettings(directory="https://ca.example/dir", names=("a.example", "b.example"))
    tls = TlsSettings(on=True, acme=acme, certificate_ca=CA.pem)
    named, plain = listeners_of(tls), listeners_of(TlsSettings(on=True))
    assert named.configuration == plain.configuration
    text = re.sub(r"\s+", " ", named.more_files["advanced.config"])
    parts = {
        "ssl_options": "rabbit, ",
        "management.ssl": "rabbitmq_management, ",
        "prometheus.ssl": "rabbitmq_prometheus, ",
    }
    for prefix, start in parts.items():
        part = text.partition(f"{{{start}")[2].partition("sni_hosts")[0]
        assert "{versions, ['tlsv1.3', 'tlsv1.2']}" in part
        lines = re.findall(rf"^{re.escape(prefix)}\.([a-z_]+) = (\S+)$", plain.configuration, re.MULTILINE)
        assert len(lines) >= 4
        for key, value in lines:
            assert f'{{{key}, "{value}"}}' in part or f"{{{key}, {value}}}" in part, (prefix, key)
    for name in acme.names:
        assert text.count(f'{{"{name}", [{{certfile, "/tls/public.pem"}}, {{keyfile, "/tls/public.pem"}}]}}') == 3
    assert text.count('{sni_hosts, [{"a.example", ') == 3
    assert "/tls/public.pem" in named.inputs["entrypoints"][2]


def test_traefik_passes_encrypted_connections_through() -> None:
    labels = ENCRYPTED.routes("kryonix-dev-rabbitmq", "example.com")
    assert not [label for label in labels if "certresolver" in label or label.startswith("traefik.http")]
    for router in ("kryonix-dev-rabbitmq", "kryonix-dev-rabbitmq-mgmt"):
        assert labels[f"traefik.tcp.routers.{router}.tls.passthrough"] == "true"
        assert labels[f"traefik.tcp.routers.{router}.service"] == router


def test_the_health_checks_greeting_begins_a_handshake() -> None:
    """A server answers it with its hello, which begins with the same byte; anything else it logs as a warning."""
    greeting = ENCRYPTED.greeting.encode().decode("unicode_escape").encode("latin-1")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(greeting)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):  # it has no certificate here
        server.do_handshake()
