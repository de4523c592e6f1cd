"""Where listeners speak TLS, what config is refused, and that no client loses its plain port unasked."""

from __future__ import annotations

from typing import Any

import pytest

from components.acme_settings import AcmeSettings
from components.errors import InvalidStack
from components.tls_settings import TlsSettings, speaks_tls

DIRECTORY = "https://ca.example/directory"


def acme(**given: Any) -> AcmeSettings:
    return AcmeSettings(**{"directory": DIRECTORY, "names": ["messaging.example.com"], **given})


ACME = acme()
LOCAL = {
    "management_url": "http://127.0.0.1:15672",
    "metrics_url": "http://localhost:9419/metrics",
    "ca_certificate": "",
}
REACHED = {"management_url": "http://broker.example:15672", "metrics_url": "http://127.0.0.1:9419/metrics"}


@pytest.mark.parametrize(
    ("choice", "addresses", "on"),
    [
        ("auto", ["127.0.0.1", "::1"], False),
        ("auto", ["127.0.0.1", "0.0.0.0"], True),
        ("auto", ["192.0.2.1"], True),
        ("true", ["127.0.0.1"], True),
        ("false", ["0.0.0.0"], False),
    ],
)
def test_tls_is_on_off_loopback_and_by_choice(choice: str, addresses: list[str], on: bool) -> None:
    assert speaks_tls(choice, addresses) is on


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"choice": "yes"}, r"kryonix:tls: 'yes' is none of auto, true and false"),
        ({"trusted": []}, r"kryonix:caTrusted: \[\] is not a list of generations"),
        ({"trusted": [0, 1]}, r"kryonix:caTrusted: \[0, 1\] is not a list of generations"),
        ({"trusted": [2, 1], "issuing": 1}, r"kryonix:caTrusted: \[2, 1\] must be ascending"),
        (
            {"trusted": [1, 2], "issuing": 3},
            r"kryonix:caIssuing: 3 is not trusted. Use one of .*\(1, 2\)",
        ),
        (
            {"certificate_dir": "certs"},
            r"kryonix:certificateDir: 'certs' is not an absolute path",
        ),
        (
            {"certificate_dir": "/certs", "certificate_ca": "PEM"},
            r"kryonix:caCertificate: the trusted CA can't be read",
        ),
        ({"certificate_dir": "/certs"}, r"kryonix:certificateDir needs kryonix:caCertificate"),
        ({"on": True, "acme": ACME}, r"kryonix:acmeDirectory needs kryonix:caCertificate: .*ISRG Root"),
        ({"acme": ACME}, r"kryonix:acmeDirectory needs TLS, and kryonix:tls 'auto' is off here. Set kryonix:tls to"),
        ({"acme": ACME, "certificate_dir": "/certs"}, r"acmeDirectory and kryonix:certificateDir: .* Set one"),
        ({"acme": acme(directory="http://ca.example")}, r"acmeDirectory: 'http://ca.example' is not the https URL"),
        ({"acme": acme(directory="HTTPS://ca.example")}, r"acmeDirectory: 'HTTPS://ca.example' is not the https URL"),
        ({"acme": acme(directory="https://[::1")}, r"is not the https URL"),
        ({"acme": acme(directory="https://ca.example:many")}, r"is not the https URL"),
        ({"acme": acme(directory="https://ca.example/\n")}, r"is not the https URL"),
        ({"acme": acme(directory="https://me:secret@ca.example")}, r"acmeDirectory: the value is not the https URL"),
        (
            {"acme": acme(names=["192.0.2.1"])},
            r"acmeDirectory: '192.0.2.1' is not a public DNS name, .*kryonix:advertisedHost",
        ),
        ({"acme": acme(names=["localhost"])}, r"acmeDirectory: 'localhost' is not a public DNS name"),
        ({"acme": acme(names=["*.example.com"])}, r"acmeDirectory: '\*.example.com' is not a public DNS name"),
        ({"acme": acme(names=["a.example", "a.example"])}, r"acmeNames: .* has a name twice"),
        ({"acme": acme(contact="operators")}, r"acmeContact: 'operators' is not an e-mail address"),
    ],
)
def test_a_wrong_value_is_refused_by_name(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidStack, match=problem):
        TlsSettings(**given)


@pytest.mark.parametrize("outputs", [{}, LOCAL, {**REACHED, "ca_certificate": "PEM"}])
def test_a_platform_that_nobody_reaches_in_plain_text_may_get_tls(outputs: dict[str, str]) -> None:
    TlsSettings(on=True).refuse_unasked(outputs)


def test_a_platform_that_others_reach_in_plain_text_gets_tls_only_if_asked() -> None:
    with pytest.raises(InvalidStack, match=r"broker\.example.*Set kryonix:tls to \"true\""):
        TlsSettings(on=True).refuse_unasked(REACHED)
    TlsSettings(on=True, choice="true").refuse_unasked(REACHED)
    TlsSettings(on=False).refuse_unasked(REACHED)
    TlsSettings(on=False, choice="false").refuse_unasked(REACHED)


@pytest.mark.parametrize(("was", "on"), [("", True), ("PEM", False)])
def test_a_cluster_neither_gets_tls_nor_loses_it(was: str, *, on: bool) -> None:
    """Its nodes are replaced one by one, and those with TLS can't speak with those without."""
    outputs = {"ca_certificate": was, "broker_nodes": [{}] * 3}
    with pytest.raises(InvalidStack, match=f'kryonix:tls: .*Set kryonix:tls to "{str(not on).lower()}"'):
        TlsSettings(on=on).refuse_mixture(outputs)
    TlsSettings(on=not on).refuse_mixture(outputs)
    for alone in ({}, {"ca_certificate": was, "broker_nodes": [{}]}):
        TlsSettings(on=on).refuse_mixture(alone)
