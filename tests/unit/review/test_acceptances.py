"""Acceptances: which findings they cover, and when they expire."""

from __future__ import annotations

import pytest

from kryonix.review.guardrails import Acceptance, Finding, Guardrail, judge, parse_acceptances
from kryonix.topology.errors import InvalidInput

LOST = Finding(Guardrail.queue_lost, "acme", "cliente_acme.portal.x.sync", "")
SECRET = Finding(Guardrail.secret_in_plain_text, "", "Pulumi.dev.yaml password", "")


def yes(object: str, *, guardrail: str = "queue-lost", tenant: str = "acme", reason: str = "meant") -> Acceptance:
    return Acceptance(guardrail=guardrail, tenant=tenant, object=object, reason=reason)


def test_an_accepted_finding_does_not_block_and_keeps_its_reason() -> None:
    entry = yes(LOST.object)
    judged = judge([LOST], [entry], [])
    assert (judged.blocking, judged.accepted, judged.unmatched, judged.spent) == ((), ((LOST, entry),), (), ())


@pytest.mark.parametrize("object", ["cliente_acme.portal.*", "*", "cliente_*.portal.x.sync", LOST.object])
def test_a_star_matches_any_text(object: str) -> None:
    assert yes(object).accepts(LOST)
    assert yes(object, tenant="*").accepts(LOST)


@pytest.mark.parametrize(
    "entry",
    [
        yes("cliente_acme.portal.x"),
        yes("cliente_acme.portal.?.sync"),
        yes("cliente_acme.portal.[x].sync"),
        yes(LOST.object, tenant="acme2"),
        yes(LOST.object, tenant=""),
        yes(LOST.object, guardrail="limit-lifted"),
        yes(LOST.object.upper()),
    ],
)
def test_an_unused_acceptance_is_reported(entry: Acceptance) -> None:
    judged = judge([LOST], [entry], [])
    assert (judged.blocking, judged.unmatched) == ((LOST,), (entry,))


def test_an_acceptance_of_the_base_is_ignored() -> None:
    old, new = yes(LOST.object, reason="last year"), yes(LOST.object, reason="this year")
    assert judge([LOST], [old], [old]).blocking == (LOST,)
    assert judge([LOST], [old], [old]).spent == (old,)
    assert judge([LOST], [old, new], [old]).accepted == ((LOST, new),)


def test_a_secret_belongs_to_no_tenant() -> None:
    assert yes(SECRET.object, guardrail="secret-in-plain-text", tenant="").accepts(SECRET)
    assert not yes(SECRET.object, guardrail="secret-in-plain-text", tenant="acme").accepts(SECRET)


def test_a_file_of_entries_is_read() -> None:
    content = b"accepted:\n  - {guardrail: queue-lost, tenant: acme, object: x, reason: it is empty}\n"
    assert parse_acceptances(content, "f") == [yes("x", reason="it is empty")]
    assert parse_acceptances(b"accepted: []", "f") == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{guardrail: queue-lsot, object: x, reason: meant}", "f:2: .*did you mean 'queue-lost'"),
        ("{guardrail: queue-lost, object: x}", "reason"),
        ("{guardrail: queue-lost, object: x, reason: ''}", "reason"),
        ("{guardrail: queue-lost, reason: meant}", "object"),
        ("{guardrail: queue-lost, object: x, reason: meant, because: x}", "unknown field 'because'"),
    ],
)
def test_an_incomplete_acceptance_is_refused_with_its_line(entry: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_acceptances(f"accepted:\n  - {entry}\n".encode(), "f")
