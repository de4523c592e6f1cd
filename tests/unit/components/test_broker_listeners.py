"""The broker's listeners: plain as they were, or TLS and nothing else."""

from __future__ import annotations

import ssl

import pytest

from components.broker_listeners import ENCRYPTED, PLAIN


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
