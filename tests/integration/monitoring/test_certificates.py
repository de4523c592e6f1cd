"""The expiry of certificates of real TLS listeners."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from kryonix.certificates.listeners import listeners_of
from kryonix.monitoring.certificates import certificate_figures
from kryonix.monitoring.exporter import Exporter
from tests.support.tls import faulty, serving


def test_the_expiry_is_served_and_a_listener_without_tls_counted() -> None:
    expired = faulty("expired")  # in the past: an expired certificate has a date too
    assert expired
    with serving(expired) as secure, serving(expired) as broker, serving(expired) as database, serving(None) as plain:
        outputs = {
            "management_url": f"https://127.0.0.1:{secure}",
            "amqp_addresses": [f"127.0.0.1:{broker}"],
            "registry_dsn": f"postgresql://user:a-secret@127.0.0.1:{database}/kryonix?sslmode=verify-full",
            "events_uri": f"amqps://user:a-secret@127.0.0.1:{plain}/vhost",
            "metrics_url": "http://127.0.0.1:9419/metrics",
            "amqp_port": 5672,
        }
        exporter = Exporter({"certificates main": lambda: certificate_figures(listeners_of(outputs))}, 900)
        exporter.read()
    registry = CollectorRegistry()
    registry.register(exporter)
    text = generate_latest(registry).decode()
    lines = [each for each in text.splitlines() if each.startswith("kryonix_certificate_expiry_timestamp_seconds{")]
    ends = expired.certificate.not_valid_after_utc.timestamp()
    assert {name: float(value) for name, _, value in (line.partition(" ") for line in lines)} == {
        f'kryonix_certificate_expiry_timestamp_seconds{{endpoint="127.0.0.1:{port}"}}': ends
        for port in (secure, broker, database)
    }
    assert 'kryonix_exporter_source_readable{source="certificates main"} 0.0' in text
    assert 'kryonix_exporter_source_failures_total{source="certificates main"} 1.0' in text
    assert "a-secret" not in text


def test_a_platform_without_tls_is_readable_and_has_no_series() -> None:
    (family,) = certificate_figures(listeners_of({"management_url": "http://127.0.0.1:15672"}))
    assert family.samples == []
