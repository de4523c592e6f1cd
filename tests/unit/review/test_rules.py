"""Each guardrail with a change that trips it and a similar change that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kryonix.review.guardrails import SEVERAL, Finding, Guardrail, exit_status
from kryonix.review.rules import misfit
from kryonix.topology.objects import Permissions
from kryonix.topology.tenants import Tenant
from tests.support.review_examples import CATALOG, findings, redefined, told, topology, with_plan, with_policies


def test_every_guardrail_has_a_unique_exit_status() -> None:
    statuses = [guardrail.exit_status for guardrail in Guardrail]
    assert sorted({*statuses, SEVERAL}) == list(range(10, 17))
    assert len(statuses) == 6


def test_one_guardrail_gives_its_exit_status_and_several_give_another() -> None:
    lost = Finding(Guardrail.queue_lost, "acme", "a", "")
    assert exit_status([]) == 0
    assert exit_status([lost, replace(lost, object="b")]) == 10
    assert exit_status([lost, Finding(Guardrail.tenant_removed, "beta", "beta", "")]) == SEVERAL


def test_only_a_removed_module_loses_queues() -> None:
    small, large = topology("crm"), topology("crm", "portal")
    lost = told(large, small)
    assert ("queue-lost", "cliente_acme.portal.treinamentos.sync") in lost
    assert ("queue-lost", "cliente_acme.portal.treinamentos.sync.dlq") in lost
    assert len(lost) == 10
    assert told(small, large) == set()


def test_a_queue_with_other_arguments_is_replaced_an_equal_one_kept() -> None:
    before = topology("crm")
    changed = replace(before.queues[1], arguments={**before.queues[1].arguments, "x-max-priority": 5})
    after = replace(before, queues=(before.queues[0], changed, *before.queues[2:]))
    (finding,) = findings(before, after)
    assert (finding.guardrail, finding.object) == (Guardrail.queue_lost, changed.name)
    assert "replaced" in finding.message
    assert findings(before, before) == []


def test_a_removed_tenant_is_one_finding_a_suspended_or_new_one_none() -> None:
    before = topology("crm")
    (finding,) = findings(before, None)
    assert (finding.guardrail, finding.object) == (Guardrail.tenant_removed, "acme")
    assert "15 queues" in finding.message
    assert told(before, topology("crm", status="suspended")) == set()
    assert told(topology("crm", status="suspended"), before) == set()
    assert told(None, before) == set()


def test_only_a_tenant_that_exceeds_its_plan_is_a_finding() -> None:
    modules = ("crm", "whatsapp", "financeiro", "marketing", "analytics")
    found = misfit(Tenant(id="acme", modules=modules, plan="basic"), CATALOG)
    assert found is not None
    assert (found.guardrail, found.object) == (Guardrail.plan_does_not_fit, "basic")
    assert "57 queues of 50" in found.message
    assert misfit(Tenant(id="acme", modules=modules, plan="pro"), CATALOG) is None
    assert misfit(Tenant(id="acme", modules=modules[:3], plan="basic"), CATALOG) is None


@pytest.mark.parametrize(
    ("right", "old", "new", "reached"),
    [
        ("configure", "^$", r"^cliente_acme(\.|$)", "cliente_acme.unrouted"),
        ("write", "^cliente_acme$", ".*", "cliente_acme.unrouted"),
        ("read", "^cliente_acme", "^cliente_", "cliente_other"),
        ("read", "^cliente_acme", "amq|^cliente_acme", "amq.topic"),
        ("write", "^cliente_acme", "(?i)^cliente_acme", None),
        ("write", "^cliente_acme", "[broken", None),
        ("read", r"^a\.[a-z]+\.(?!dlx$)", r"^a\.(unrouted$|[a-z]+\.(?!dlx$))", None),
        ("read", "^(a|b)+$", "^a+$", None),
        ("read", "^(?!(a|b))c", "^(?!a)c", None),
        ("read", r"^\(a|b\)$", "^a$", None),
    ],
)
def test_a_wider_permission_is_found_with_an_example_if_there_is_one(
    right: str, old: str, new: str, reached: str | None
) -> None:
    before = replace(topology(), permissions=replace(Permissions("^$", "^$", "^$"), **{right: old}))
    after = replace(before, permissions=replace(before.permissions, **{right: new}))
    (finding,) = findings(before, after)
    assert (finding.guardrail, finding.object) == (Guardrail.permission_widened, right)
    assert (f"reaches '{reached}'" if reached else "can't be shown to reach no more") in finding.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".*", "^cliente_acme"),
        ("^cliente_acme", "^$"),
        ("", "^x"),
        ("^a", "^a"),
        (r"^cliente_acme\.(unrouted$|[a-z]+\.(?!dlx$))", r"^cliente_acme\.[a-z]+\.(?!dlx$)"),
    ],
)
def test_an_equal_or_narrower_permission_is_not_found(old: str, new: str) -> None:
    before = replace(topology(), permissions=Permissions("^$", old, "^$"))
    assert findings(before, replace(before, permissions=Permissions("^$", new, "^$"))) == []


def test_a_raised_limit_is_found_unless_the_plan_is_larger() -> None:
    before, more = topology(), topology(catalog=with_plan("pro", max_channels=501))
    assert told(before, more) == {("limit-lifted", "max_channels")}
    assert told(more, before) == set()
    assert told(topology(plan="basic"), topology(plan="enterprise")) == set()
    assert told(topology(plan="enterprise"), topology(plan="basic")) == set()


def test_a_raised_or_unlimited_depth_on_the_same_plan_is_found() -> None:
    before = topology()
    deeper = with_policies(before, lambda p: redefined(p, max_length=6_000) if p.kind == "operator" else p)
    endless = with_policies(before, lambda p: redefined(p, max_length=None) if p.kind == "operator" else p)
    removed = with_policies(before, lambda p: None if p.kind == "operator" else p)
    assert told(before, deeper) == {("limit-lifted", "autoscaling-acme max-length")}
    assert told(deeper, before) == set()
    # crm has a bound of its own below, which holds then: it is higher, so the limit is lifted all the same.
    assert told(before, endless) == {("limit-lifted", "autoscaling-acme max-length")}
    assert told(before, removed) == {
        ("limit-lifted", "autoscaling-acme max-length"),
        ("limit-lifted", "autoscaling-acme max-length-bytes"),
    }


def test_a_bound_is_judged_by_all_policies_of_a_queue_together() -> None:
    before = topology("crm")
    # 50,000 of the module's policy never held: the plan's 5,000 do.
    assert (
        told(before, with_policies(before, lambda p: redefined(p, max_length=90_000) if p.name == "modulo-crm" else p))
        == set()
    )
    assert (
        told(before, with_policies(before, lambda p: redefined(p, max_length=None) if p.name == "modulo-crm" else p))
        == set()
    )
    # Another name with the same bound lifts nothing, and a priority that another policy wins by does.
    assert told(before, with_policies(before, lambda p: replace(p, name="x") if p.name == "dlq" else p)) == set()
    assert told(before, with_policies(before, lambda p: replace(p, priority=0) if p.name == "dlq" else p)) == {
        ("limit-lifted", "dlq max-length"),
        ("limit-lifted", "dlq max-length-bytes"),
    }


def test_a_new_policy_of_a_higher_priority_without_a_bound_lifts_it() -> None:
    before = topology("crm")
    dead = next(policy for policy in before.policies if policy.name == "dlq")
    boundless = replace(dead, name="first", priority=9, definition={"message-ttl": 1_000})
    assert told(before, replace(before, policies=(*before.policies, boundless))) == {
        ("limit-lifted", "dlq max-length"),
        ("limit-lifted", "dlq max-length-bytes"),
    }


def test_only_unlimited_deliveries_lift_the_limit() -> None:
    before = topology("crm")
    more = with_policies(before, lambda p: redefined(p, delivery_limit=9) if p.name == "modulo-crm" else p)
    endless = with_policies(before, lambda p: redefined(p, delivery_limit=None) if p.name == "modulo-crm" else p)
    assert told(before, more) == set()
    assert told(before, endless) == {("limit-lifted", "modulo-crm delivery-limit")}


def test_a_policy_removed_with_its_module_lifts_no_limit() -> None:
    assert {label for label, _ in told(topology("crm", "portal"), topology("crm"))} == {"queue-lost"}
