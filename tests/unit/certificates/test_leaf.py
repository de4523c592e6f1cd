"""What a certificate says, and whether clients would accept it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import CertificateRejected, Leaf
from tests.support.tls import CA, HOST, Pair, faulty, pair


def now() -> datetime:
    return datetime.now(UTC)


def leaf(made: Pair) -> Leaf:
    return Leaf.read(made.pem + made.key_pem)


def of_fault(fault: str) -> Leaf:
    made = faulty(fault)
    assert made
    return leaf(made)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("wrong CA", "not issued by a trusted CA, but by CN=a CA"),
        ("expired", "expired: CN=expired was valid until"),
        ("not yet valid", "not yet valid: CN=future is valid from"),
        ("wrong host", "wrong host: it is issued for elsewhere.example, 10.9.8.7, not for 127.0.0.1"),
        ("self-signed", "self-signed: "),
    ],
)
def test_a_faulty_certificate_is_rejected_with_its_fault(fault: str, told: str) -> None:
    with pytest.raises(CertificateRejected) as caught:
        of_fault(fault).check(CA.pem, [HOST], now())
    assert str(caught.value).startswith(told)


def test_a_key_of_another_certificate_is_rejected() -> None:
    with pytest.raises(CertificateRejected, match="the key is not the certificate's"):
        Leaf(chain=of_fault("good").chain, key=of_fault("good").key).check(CA.pem, [HOST], now())


def test_a_good_certificate_passes_and_every_name_is_checked() -> None:
    of_fault("good").check(CA.pem, [HOST], now())
    with pytest.raises(CertificateRejected, match=r"not for other\.example"):
        of_fault("good").check(CA.pem, [HOST, "other.example"], now())


def test_the_time_is_the_one_that_is_given() -> None:
    with pytest.raises(CertificateRejected, match="expired"):
        of_fault("good").check(CA.pem, [HOST], now() + timedelta(days=91))


def test_either_ca_of_a_bundle_will_do() -> None:
    other = pair("another CA")
    of_fault("good").check(other.pem + CA.pem, [HOST], now())


def test_an_intermediate_is_needed_unless_it_comes_along() -> None:
    between = pair("between", CA)
    end = pair("end", between, names=[HOST])
    Leaf.read(end.key_pem + end.pem + between.pem).check(CA.pem, [HOST], now())
    with pytest.raises(CertificateRejected, match="its intermediates"):
        leaf(end).check(CA.pem, [HOST], now())
    assert Leaf.read(end.key_pem + end.pem + between.pem).issued_by(CA.pem)
    assert not leaf(end).issued_by(CA.pem)


def test_it_is_due_once_two_thirds_of_its_life_are_over() -> None:
    made = Authority.create("a CA").issue_server(["broker"])
    life = made.expires - made.starts
    assert not made.due(made.starts + life * 0.66)
    assert made.due(made.starts + life * 0.67)


def test_reading_keeps_order_key_and_serial_whatever_the_order_of_blocks() -> None:
    made = pair("end", CA, names=["b.example", "a.example", "::1"])
    for text in (made.pem + made.key_pem, made.key_pem + made.pem):
        read = Leaf.read(text)
        assert (read.serial, read.names) == (made.certificate.serial_number, ("b.example", "a.example", "::1"))
        assert Leaf.read(read.pem) == read


def test_a_key_in_another_form_is_read() -> None:
    key = rsa.generate_private_key(65537, 2048)
    old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    assert Leaf.read(of_fault("good").chain + old).key.startswith("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_a_text_without_a_certificate_is_rejected(text: str) -> None:
    with pytest.raises(CertificateRejected, match="no certificate"):
        Leaf.read(text)


def test_a_missing_or_locked_key_is_rejected() -> None:
    good = of_fault("good")
    locked = load_pem_private_key(good.key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a passphrase")
    )
    with pytest.raises(CertificateRejected, match="no private key"):
        Leaf.read(good.chain)
    with pytest.raises(CertificateRejected, match="passphrase"):
        Leaf.read(good.chain + locked.decode())
