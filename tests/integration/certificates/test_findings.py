"""What `kryonix check` finds on the certificates of real listeners."""

from __future__ import annotations

import pytest

from kryonix.checks.certificates import certificate_findings
from kryonix.checks.findings import Finding
from tests.support.tls import CA, FAULTS, HOST, Pair, faulty, pair, serving


def found(made: Pair | None, ca: str = CA.pem) -> list[Finding]:
    with serving(made) as port:
        return list(certificate_findings({"management_url": f"https://{HOST}:{port}", "ca_certificate": ca}))


def test_a_certificate_that_clients_accept_for_long_is_no_finding() -> None:
    assert found(faulty("good")) == []
    assert found(pair("soon", CA, names=[HOST], starts=-60, ends=15)) == []


def test_one_that_ends_soon_is_found_with_its_remedy() -> None:
    (soon,) = found(pair("soon", CA, names=[HOST], starts=-80, ends=3))
    assert (soon.check, soon.outcome) == ("certificates", "fail")
    assert "expires on" in soon.why
    assert "in 3 days" in soon.why
    assert "kryonix certificates renew" in soon.remedy


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "plain"])
def test_one_that_clients_refuse_is_found_with_the_reason(fault: str) -> None:
    (refused,) = found(faulty(fault))
    assert refused.outcome == "fail"
    assert ("the certificate expired on" if fault == "expired" else f": {fault}: ") in refused.why


def test_one_of_elsewhere_is_renewed_elsewhere() -> None:
    (refused,) = found(faulty("self-signed"), ca="")
    assert refused.remedy.startswith(f"Renew it where TLS of {HOST}:")


def test_a_listener_without_tls_or_without_an_answer_is_unreachable() -> None:
    (plain,) = found(None)
    assert (plain.outcome, "plain: " in plain.why) == ("unreachable", True)


def test_without_tls_nothing_is_tried() -> None:
    (finding,) = certificate_findings({"management_url": "http://x"})
    assert (finding.outcome, finding.why) == ("not tried", "no address of the platform has TLS")
