"""A platform's CAs, of services and of clients; certificates made by others, whose CA is trusted beside the former."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pulumi
import pytest

from components import certificate_authorities
from components.errors import InvalidStack
from components.tls_settings import TlsSettings
from tests.support.mocked import registered
from tests.support.tls import CA

FOLDER = "/etc/certificates"


@pytest.mark.parametrize(
    ("ca", "problem"),
    [
        ("", "kryonix:certificateDir needs kryonix:caCertificate: clients trust no other"),
        ("no PEM", "kryonix:caCertificate: the trusted CA can't be read"),
    ],
)
def test_a_folder_without_the_ca_of_its_certificates_is_refused(ca: str, problem: str) -> None:
    with pytest.raises(InvalidStack, match=re.escape(problem)):
        TlsSettings(on=True, certificate_dir=FOLDER, certificate_ca=ca)


@pytest.mark.parametrize("ca", ["", CA.pem])
def test_clients_trust_every_generation_and_that_ca(monkeypatch: pytest.MonkeyPatch, ca: str) -> None:
    """Both kinds of CA change by the same generations, and neither is trusted where the other is."""

    def made(name: str, *, generation: int, kind: str = "CA", opts: object) -> SimpleNamespace:
        of = pulumi.Output.from_input
        return SimpleNamespace(certificate=of(f"{name}: {kind} {generation}\n"), key=of(f"key of {name}"))

    def program() -> None:
        both = certificate_authorities.CertificateAuthorities("ca", settings)
        pulumi.Output.all(both.trust, both.clients, both.issuing.key, both.of_clients).apply(found.extend)

    monkeypatch.setattr(certificate_authorities, "CertificateAuthority", made)
    settings = TlsSettings(on=True, trusted=(1, 2), issuing=2, certificate_dir=FOLDER if ca else "", certificate_ca=ca)
    found: list[object] = []
    registered(program)
    assert found == [
        f"ca-1: CA 1\nca-2: CA 2\n{ca}",
        "ca-clients-1: clients' CA 1\nca-clients-2: clients' CA 2\n",
        "key of ca-2",
        {"certificate": "ca-clients-2: clients' CA 2\n", "key": "key of ca-clients-2"},
    ]
