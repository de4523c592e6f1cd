"""The certificate that a listener serves."""

from __future__ import annotations

import pytest

from kryonix.certificates.handshake import StartTls
from kryonix.certificates.served import CertificateUnreadable, served
from tests.support.tls import HOST, faulty, serving


@pytest.mark.parametrize("starttls", ["", "postgres"])
@pytest.mark.parametrize("fault", ["good", "expired", "self-signed"])
def test_any_certificate_is_read_also_one_that_nobody_accepts(fault: str, starttls: StartTls) -> None:
    made = faulty(fault)
    assert made
    with serving(made) as port:
        found = served(HOST, port, starttls=starttls)
    assert (found.serial, found.pem) == (made.certificate.serial_number, made.pem)
    assert (found.names, found.expires) == ((HOST,), made.certificate.not_valid_after_utc)
    assert found.issuer == made.certificate.issuer.rfc4514_string()


@pytest.mark.parametrize("starttls", ["", "postgres"])
def test_a_listener_without_tls_is_named_with_the_reason(starttls: StartTls) -> None:
    with serving(None) as port, pytest.raises(CertificateUnreadable, match=f"{HOST}:{port} can't be read: plain: "):
        served(HOST, port, starttls=starttls)


def test_a_listener_that_does_not_answer_is_named() -> None:
    with serving(None) as port:
        pass
    with pytest.raises(CertificateUnreadable, match=f"{HOST}:{port} can't be read: Connection refused"):
        served(HOST, port)
