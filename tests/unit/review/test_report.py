"""The report: content, order, length and escaping."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.review.differences import TenantDifference, differences, nameless
from kryonix.review.guardrails import Acceptance, Finding, Guardrail, Judgement, judge
from kryonix.review.report import LONGEST_COMMENT, MARKER, SHORTEST_REPORT, Review, markdown, refusal
from kryonix.review.rules import find
from kryonix.topology.expansion import Topology
from tests.support.rendered import Rendered
from tests.support.review_examples import CATALOG, topology, with_plan
from tests.unit.review.test_escaping import HOSTILE

MODULES = sorted(CATALOG.modules)
TAGS = {"h2", "h3", "p", "code", "strong", "b", "blockquote", "details", "summary", "pre", "ul", "li"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


def review(before: list[Topology], after: list[Topology], **more: Any) -> Review:
    found = differences(before, after)
    findings = [finding for difference in found for finding in find(difference)]
    return Review("main", found, judge(findings, [], []), **more)


def fleet(count: int, seed: int = 1, plan: str = "enterprise") -> list[Topology]:
    """Tenants of many kinds."""
    chosen = random.Random(seed)
    return [
        topology(*chosen.sample(MODULES, chosen.randint(1, 8)), id=f"loja-{number:04}", plan=plan)
        for number in range(count)
    ]


ALL_KINDS = review(
    [topology("crm", "portal"), topology(id="gone"), topology("crm", id="fine")],
    [topology("crm"), topology(id="nova"), topology("crm", "portal", id="fine", plan="enterprise")],
)


def test_the_summary_names_changes_losses_and_blocking_findings() -> None:
    head = markdown(ALL_KINDS).split("###")[0]
    assert head.startswith(f"{MARKER}\n")
    assert "**1 tenant added**, **2 tenants changed**, **1 tenant removed**" in head
    assert "**25 queues lost with the messages in them.**" in head
    assert "`queue-lost` × 10, `tenant-removed` × 1 (exit status 16)" in head


def test_losses_come_first_then_alphabetical_order() -> None:
    page = markdown(ALL_KINDS)
    places = [page.index(f"<b><code>{name}</code></b>") for name in ("gone", "acme", "fine", "nova")]
    assert places == sorted(places)


def test_every_lost_queue_is_named_and_marked_in_the_full_report() -> None:
    page = markdown(ALL_KINDS)
    for change in ALL_KINDS.differences[0].lost:
        assert f"- <code>{change.name}</code>" in page
    assert "⚠️ **10 queues deleted, with the messages**" in page


def test_limits_and_capacity_are_shown_before_and_after() -> None:
    rows = Rendered.of(markdown(ALL_KINDS)).rows
    assert ["max_connections", "50", "100"] in rows
    assert ["queues used", "15 of 200 (7 %)", "25 of 500 (5 %)"] in rows
    assert ["autoscaling-fine", "max-length", "5000", "10000"] in rows


def test_durations_are_shown_as_in_the_catalog() -> None:
    modules = {**CATALOG.modules, "crm": CATALOG.modules["crm"].model_copy(update={"retention": 43_200_000})}
    shorter = CATALOG.model_copy(update={"modules": modules})
    rows = Rendered.of(markdown(review([topology()], [topology(catalog=shorter)]))).rows
    assert ["modulo-crm", "message-ttl", "1d", "12h"] in rows


def test_tenants_with_equal_changes_share_a_fold() -> None:
    ids = [f"loja-{number}" for number in range(50)]
    before, after = ([topology(id=name, plan=plan) for name in ids] for plan in ("basic", "pro"))
    page = markdown(review(before, after))
    assert page.count("<details>") == 1
    assert "<b>50 tenants</b> alike" in page
    assert all(f"<code>{name}</code>" in page for name in ids)


def test_the_order_of_the_lists_does_not_matter() -> None:
    before, after = fleet(60, seed=1), fleet(60, seed=2)
    shuffled = [random.Random(3).sample(side, len(side)) for side in (before, after)]
    assert markdown(review(before, after)) == markdown(review(*shuffled))


@pytest.fixture(scope="module")
def thousand() -> Review:
    """A change to each of a thousand tenants."""
    return review(fleet(1_000, seed=1), fleet(1_000, seed=2))


@pytest.mark.parametrize("limit", [SHORTEST_REPORT, 10_000, LONGEST_COMMENT])
def test_a_report_on_a_thousand_tenants_fits_and_names_the_omissions(thousand: Review, limit: int) -> None:
    page = markdown(thousand, limit=limit, full="report.md")
    assert len(page.encode()) <= limit
    assert "**Cut here: " in page
    assert page.rstrip().endswith("The whole report is in <code>report.md</code>.")
    assert Rendered.of(page).unbalanced == []


def test_the_full_report_on_a_thousand_tenants_names_each(thousand: Review) -> None:
    full = markdown(thousand)
    assert all(f"<code>{difference.tenant}</code>" in full for difference in thousand.differences)


def test_tenants_become_lines_where_folds_do_not_fit() -> None:
    page = markdown(review(fleet(300, seed=1), fleet(300, seed=2)), limit=30_000)
    assert page.count("<details><summary>") < page.count("\n- ") + page.count("<details><summary>")
    assert "\n- ⚠️ <b><code>loja-" in page


def test_common_changes_of_many_tenants_come_first() -> None:
    raised = with_plan("enterprise", max_channels=2_000)
    chosen = fleet(40)
    after = [topology(*each.tenant.modules, id=each.tenant.id, plan="enterprise", catalog=raised) for each in chosen]
    rows = Rendered.of(markdown(review(chosen, after))).rows
    assert ["max_channels", "1000", "2000", "40"] in rows


def test_a_short_report_is_complete() -> None:
    assert markdown(ALL_KINDS, limit=LONGEST_COMMENT, full="report.md") == markdown(ALL_KINDS)
    assert "report.md" not in markdown(ALL_KINDS, limit=LONGEST_COMMENT, full="report.md")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"judgement": None}, "The guardrails were not checked"),
        ({"fits": False}, "it can't be deployed"),
        ({"complete": False}, "the comparison is incomplete: see the note"),
        ({}, "✅ Nothing blocks it."),
    ],
)
def test_the_verdict_claims_no_more_than_was_checked(changed: dict[str, Any], said: str) -> None:
    page = markdown(Review("main", (), **changed))
    assert said in page
    assert ("✅" in page) is (changed == {})


def hostile_review(texts: list[str]) -> Review:
    """A review in which everything that others may write is hostile."""
    one, two, three, four, five, six = texts
    secret = Finding(Guardrail.secret_in_plain_text, "", one, f"line 1 holds '{two}'")
    wide = Finding(Guardrail.permission_widened, "acme", "read", f"the right to read was '{three}' and is {four}")
    entry = Acceptance.model_construct(guardrail="queue-lost", tenant=five, object=six, reason=one)
    judgement = Judgement((secret, wide), ((secret, entry),), (entry,), (entry,))
    before = topology()
    queues = (*before.queues, type(before.queues[0])(two, {}, three))
    gone = TenantDifference(four, topology(id="gone"), None, ())
    changed = differences(
        [type(before)(**{**{n: getattr(before, n) for n in before.__slots__}, "queues": queues})], [before]
    )
    return Review(five, (*changed, gone), judgement, (six, one))


@given(st.lists(HOSTILE, min_size=6, max_size=6))
def test_foreign_text_cannot_break_out_of_the_report(texts: list[str]) -> None:
    for page in (markdown(hostile_review(texts)), markdown(hostile_review(texts), limit=SHORTEST_REPORT)):
        found = Rendered.of(page)
        assert found.tags <= TAGS
        assert found.attributes <= {"class"}
        assert found.unbalanced == []
        assert {len(row) for row in found.rows} <= {2, 3, 4}
        assert not any("@octocat" in text or "://" in text for text in found.texts)
        assert page.count(MARKER) == 1


@given(st.lists(HOSTILE, min_size=1, max_size=60), HOSTILE)
def test_a_refusal_lists_problems_within_its_limit_and_escapes_them(problems: list[str], base: str) -> None:
    page = refusal(base, problems, limit=SHORTEST_REPORT)
    assert len(page.encode()) <= SHORTEST_REPORT
    found = Rendered.of(page)
    assert found.tags <= TAGS
    assert found.unbalanced == []
    assert refusal(base, problems).count("\n- ") == len(problems)


def test_only_a_tenants_own_name_is_replaced_in_compared_texts() -> None:
    text = "cliente_acme.crm autoscaling-acme '/cliente_acme' acme-brasil xacme acme2"
    assert nameless("acme", text) == "cliente_{}.crm autoscaling-{} '/cliente_{}' acme-brasil xacme acme2"
    assert nameless("", text) == text
