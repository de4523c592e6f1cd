"""The private CA and what it issues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import CertificateRejected
from kryonix.errors import InvalidChoice

CA = Authority.create("Kryonix test CA 1")


def now() -> datetime:
    return datetime.now(UTC)


def test_the_ca_is_of_p256_for_ten_years_and_issues_no_other_ca() -> None:
    made = x509.load_pem_x509_certificate(CA.certificate.encode())
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert 3650 < (made.not_valid_after_utc - now()).days < 3654


def test_no_key_is_in_a_repr() -> None:
    leaf = CA.issue_server(["broker"])
    assert "PRIVATE KEY" in CA.key
    assert "PRIVATE KEY" in leaf.pem
    assert "PRIVATE KEY" not in repr(CA) + repr(leaf)


def test_a_service_gets_its_names_for_90_days_and_its_key() -> None:
    leaf = CA.issue_server(["broker", "rabbitmq-1.example", "10.0.0.1", "::1"])
    assert leaf.names == ("broker", "rabbitmq-1.example", "10.0.0.1", "::1")
    assert leaf.certificate.subject.rfc4514_string() == "CN=broker"
    assert (leaf.expires - now()).days in (89, 90)
    assert now() - timedelta(hours=2) < leaf.starts < now()
    leaf.check(CA.certificate, leaf.names, now())


def test_every_certificate_has_a_serial_and_a_key_of_its_own() -> None:
    one, other = CA.issue_server(["broker"]), CA.issue_server(["broker"])
    assert one.serial != other.serial
    assert one.key != other.key


def test_a_client_gets_a_certificate_that_no_service_can_use() -> None:
    leaf = CA.issue_client("kryonix_acme")
    usage = leaf.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.certificate.subject.rfc4514_string() == "CN=kryonix_acme"
    with pytest.raises(CertificateRejected):
        leaf.check(CA.certificate, ["kryonix_acme"], now())


def test_a_long_host_name_is_a_name_but_not_the_common_name() -> None:
    long = f"{'a' * 60}.example.com"
    leaf = CA.issue_server([long, "short"])
    assert leaf.certificate.subject.rfc4514_string() == "CN=short"
    leaf.check(CA.certificate, [long, "short"], now())


@pytest.mark.parametrize("names", [[], ["ação.example"]])
def test_names_that_no_certificate_can_have_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidChoice):
        CA.issue_server(names)


@pytest.mark.parametrize("name", ["", "a" * 65])
def test_a_client_name_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(InvalidChoice, match="1 to 64 characters"):
        CA.issue_client(name)
