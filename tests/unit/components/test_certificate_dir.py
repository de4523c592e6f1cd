"""Certificates made by others: who issued them is named, and trusted beside the platform's own CA."""

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
    def made(_name: str, *, generation: int, opts: object) -> SimpleNamespace:
        return SimpleNamespace(certificate=pulumi.Output.from_input(f"generation {generation}\n"))

    monkeypatch.setattr(certificate_authorities, "CertificateAuthority", made)
    settings = TlsSettings(on=True, trusted=(1, 2), certificate_dir=FOLDER if ca else "", certificate_ca=ca)
    trust: list[str] = []
    registered(lambda: certificate_authorities.CertificateAuthorities("ca", settings).trust.apply(trust.append))
    assert trust == [f"generation 1\ngeneration 2\n{ca}"]
