from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kryonix.review.differences import Change, compare, differences
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant

CATALOG = default_catalog()


def topology(*modules: str, plan: str = "enterprise", id: str = "acme", status: str = "active") -> Topology:
    entry = {"id": id, "modules": list(modules), "plan": plan, "status": status}
    return expand(Tenant.model_validate(entry), CATALOG)


def summary(changes: list[Change]) -> set[tuple[str, str, str]]:
    return {(change.action, change.kind, change.name) for change in changes}


def test_equal_expansions_have_no_change() -> None:
    assert list(compare("acme", topology("crm"), topology("crm"))) == []


def test_another_plan_changes_limits_and_the_operator_policy_in_place() -> None:
    changes = list(compare("acme", topology("crm", plan="basic"), topology("crm", plan="pro")))
    assert summary(changes) == {("change", "vhost", "/cliente_acme"), ("change", "operator policy", "autoscaling-acme")}
    assert not any(change.loses_messages for change in changes)


def test_a_suspension_changes_only_vhost_limit_and_permissions() -> None:
    changes = list(compare("acme", topology("crm"), topology("crm", status="suspended")))
    assert summary(changes) == {("change", "vhost", "/cliente_acme"), ("change", "permissions", "kryonix_acme")}


def test_a_removed_module_loses_its_queues_and_messages() -> None:
    changes = list(compare("acme", topology("crm", "portal"), topology("crm")))
    lost = {change.name for change in changes if change.loses_messages}
    assert len(lost) == 10
    assert all(name.startswith("cliente_acme.portal.") for name in lost)


def test_a_queue_with_other_arguments_is_replaced_and_loses_its_messages() -> None:
    before = topology("crm")
    first = before.queues[1]
    other = type(first)(first.name, {**first.arguments, "x-new": 1}, first.module)
    after = Topology(**{**{f: getattr(before, f) for f in Topology.__slots__}, "queues": (other, *before.queues[2:])})
    changes = {change.name: change for change in compare("acme", before, after) if change.kind == "queue"}
    assert changes[first.name].action == "replace"
    assert changes[first.name].loses_messages


def test_tenants_are_added_and_removed_whole() -> None:
    found = differences([topology("crm", id="old")], [topology("crm", id="new")])
    changes = [change for difference in found for change in difference.changes]
    assert ("remove", "tenant", "old") in summary(changes)
    assert ("add", "tenant", "new") in summary(changes)
    assert {change.action for change in changes if change.tenant == "new"} == {"add"}


sets = st.lists(st.sampled_from(list(CATALOG.modules)), min_size=1, unique=True)


@given(sets, sets)
def test_a_backward_comparison_is_the_reverse(before: list[str], after: list[str]) -> None:
    opposite = {"add": "remove", "remove": "add", "change": "change", "replace": "replace"}
    there = compare("acme", topology(*before), topology(*after))
    back = compare("acme", topology(*after), topology(*before))
    assert {(opposite[c.action], c.kind, c.name) for c in there} == summary(list(back))
