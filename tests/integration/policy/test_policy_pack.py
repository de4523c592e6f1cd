"""The policy pack, called as by the Pulumi engine, on the program's own resources."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from kryonix.engines.local.values import Secret
from kryonix.review.guardrails import Guardrail
from tests.conftest import ALL_MODULES
from tests.support.handlers import Recording
from tests.support.policy_pack import Held, Site, changed
from tests.support.project import tenant

WIDE = "^cliente_.*"


def guardrails(held: list[Held]) -> set[str]:
    """Return the mandatory policies that block the change."""
    assert {level for _, level, _ in held} <= {"mandatory"}
    return {name for name, _, _ in held}


def changing(recordings: list[Recording], type_: str, name: str, **properties: object) -> list[Recording]:
    """Return the registrations with other properties for one resource."""
    asked = [r for r in recordings if (r.goal.type.rpartition(":")[2], r.goal.name) == (type_, name)]
    assert len(asked) == 1, (type_, name)
    return [changed(r, **properties) if r is asked[0] else r for r in recordings]


def queue_settings(kind: str, *, auto_delete: bool) -> dict[str, object]:
    return {"durable": True, "autoDelete": auto_delete, "argumentsJson": json.dumps({"x-queue-type": kind})}


def without(recordings: list[Recording], type_: str, name: str) -> list[Recording]:
    left = [r for r in recordings if (r.goal.type.rpartition(":")[2], r.goal.name) != (type_, name)]
    assert len(left) == len(recordings) - 1
    return left


def test_every_guardrail_is_a_mandatory_policy(site: Site) -> None:
    levels = site.policies()
    assert {guardrail.label for guardrail in Guardrail} == {n for n, level in levels.items() if level == "mandatory"}
    # A violation at this level is reported as mandatory; only at this level are secrets shown with their marks.
    assert {n: level for n, level in levels.items() if level != "mandatory"} == {
        "secret-in-plain-text-input": "remediate"
    }


def test_the_programs_own_resources_pass_with_and_without_a_base(site: Site, registrations: list[Recording]) -> None:
    assert site.held(registrations) == []
    assert site.held(registrations, against=None) == []
    assert site.held_outputs(registrations) == []
    assert site.held_inputs(registrations) == []


def test_removing_a_module_is_blocked_until_its_queues_are_accepted(site: Site) -> None:
    remaining = [module for module in ALL_MODULES if module != "portal"]
    site.project.tenants(tenant("acme", *remaining), tenant("beta", "crm", plan="basic", status="suspended"))
    registrations = site.registrations()
    held = site.held(registrations)
    assert guardrails(held) == {"queue-lost"}
    assert any("cliente_acme.portal." in message and "accepted-changes.yaml" in message for _, _, message in held)
    site.accept({"guardrail": "queue-lost", "tenant": "acme", "object": "cliente_acme.portal.*", "reason": "unused"})
    assert site.held(registrations) == []


def test_an_acceptance_of_an_earlier_change_accepts_no_later_one(site: Site) -> None:
    site.accept({"guardrail": "queue-lost", "tenant": "acme", "object": "cliente_acme.portal.*", "reason": "unused"})
    site.commit()
    remaining = [module for module in ALL_MODULES if module != "portal"]
    site.project.tenants(tenant("acme", *remaining), tenant("beta", "crm", plan="basic", status="suspended"))
    assert guardrails(site.held(site.registrations())) == {"queue-lost"}


def test_removing_a_tenant_is_blocked_until_it_is_accepted(site: Site) -> None:
    site.project.tenants(tenant("acme", *ALL_MODULES))
    registrations = site.registrations()
    assert guardrails(site.held(registrations)) == {"tenant-removed"}
    site.accept({"guardrail": "tenant-removed", "tenant": "beta", "object": "beta", "reason": "contract ended"})
    assert site.held(registrations) == []


def test_added_tenants_and_modules_and_a_larger_plan_pass(site: Site) -> None:
    beta = tenant("beta", "crm", "financeiro", plan="enterprise")
    site.project.tenants(tenant("acme", *ALL_MODULES), beta, tenant("gama", "whatsapp"))
    assert site.held(site.registrations()) == []


CHANGES: dict[str, tuple[str, str, Callable[[list[Recording]], list[Recording]]]] = {
    "a right of a tenant's user": (
        "permission-widened",
        "write",
        lambda found: changing(
            found, "Permissions", "acme/user", permissions={"configure": "^$", "write": WIDE, "read": "^$"}
        ),
    ),
    "a user who is not the tenant's": (
        "permission-widened",
        "debugger",
        lambda found: changing(found, "Permissions", "acme/user", user="debugger"),
    ),
    "no limit of connections": (
        "limit-lifted",
        "vhost max_connections",
        lambda found: changing(found, "VHost", "acme/vhost", maxConnections="-1"),
    ),
    "no limit of a user's channels": (
        "limit-lifted",
        "user *",
        lambda found: without(found, "Safeguards", "acme/safeguards"),
    ),
    "more connections than the plan": (
        "limit-lifted",
        "max_connections",
        lambda found: changing(found, "VHost", "acme/vhost", maxConnections="100000"),
    ),
    "no operator policy": (
        "limit-lifted",
        "autoscaling-acme max-length*",
        lambda found: without(found, "OperatorPolicy", "acme/autoscaling-acme"),
    ),
    "fewer queues than there are": (
        "plan-does-not-fit",
        "enterprise",
        lambda found: changing(found, "VHost", "acme/vhost", maxQueues="10"),
    ),
    "a classic queue": (
        "queue-lost",
        "cliente_acme.unrouted",
        lambda found: changing(found, "Queue", "acme/unrouted", settings=queue_settings("classic", auto_delete=False)),
    ),
    "a queue that goes by itself": (
        "queue-lost",
        "cliente_acme.unrouted",
        lambda found: changing(found, "Queue", "acme/unrouted", settings=queue_settings("quorum", auto_delete=True)),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("against", ["HEAD", None], ids=["with a base", "without a base"])
def test_a_program_that_breaks_a_rule_is_blocked_until_accepted(
    site: Site, registrations: list[Recording], what: str, against: str | None
) -> None:
    guardrail, object_, change = CHANGES[what]
    made = change(registrations)
    held = site.held(made, against)
    assert held == site.held_outputs(made, against)
    if what == "more connections than the plan" and against is None:
        assert held == []  # only a base tells that there were fewer
        return
    assert guardrails(held) == {guardrail}
    assert all(object_.strip(" *") in message for _, _, message in held)
    site.accept({"guardrail": guardrail, "tenant": "acme", "object": object_, "reason": "meant"})
    assert site.held(made, against) == []


def test_a_broken_rule_is_accepted_for_as_long_as_its_entry_exists(site: Site, registrations: list[Recording]) -> None:
    change = CHANGES["no limit of a user's channels"][2]
    entry = {"guardrail": "limit-lifted", "tenant": "acme", "object": "user *", "reason": "until the next release"}
    site.accept(entry)
    site.commit()
    assert site.held(change(registrations)) == []
    site.accept()
    assert guardrails(site.held(change(registrations))) == {"limit-lifted"}


@pytest.mark.parametrize(
    ("type_", "key"), [("User", "password"), ("TenantRecord", "dsn"), ("Safeguards", "adminPassword")]
)
def test_an_unmarked_secret_in_an_input_is_blocked_and_never_shown(
    site: Site, registrations: list[Recording], type_: str, key: str
) -> None:
    own = next(r for r in registrations if r.goal.type.endswith(f":{type_}") and r.goal.name.startswith("acme/"))
    plain, marked = (
        changed(own, **{key: "correct-horse-battery"}),
        changed(own, **{key: Secret("correct-horse-battery")}),
    )
    held = site.held_inputs([plain])
    assert guardrails(held) == {"secret-in-plain-text-input"}
    assert "correct-horse" not in str(held)
    assert site.held_inputs([marked]) == []
    site.accept({"guardrail": "secret-in-plain-text", "object": f"{type_} acme/* {key}", "reason": "a test's own"})
    assert site.held_inputs([plain]) == []


@pytest.mark.parametrize("variable", ["POSTGRES_PASSWORD=correct-horse-battery=", "URL=amqp://u:correct-horse@h"])
def test_a_secret_in_a_containers_variables_is_blocked(
    site: Site, registrations: list[Recording], variable: str
) -> None:
    (own,) = [r for r in registrations if r.goal.name == "platform-postgres-container"]
    held = site.held_inputs([changed(own, envs=["PGDATA=/data", variable])])
    assert guardrails(held) == {"secret-in-plain-text-input"}
    assert "correct-horse" not in str(held)


def test_a_secret_in_an_added_line_is_blocked(site: Site, registrations: list[Recording]) -> None:
    site.project.configure(adminPassword="correct-horse-battery")
    held = site.held(registrations)
    assert guardrails(held) == {"secret-in-plain-text"}
    assert "correct-horse" not in str(held)
    site.commit()
    assert site.held(registrations) == []


@pytest.mark.parametrize("against", ["no-such-branch", "--output=x"])
def test_an_invalid_base_blocks_everything(site: Site, registrations: list[Recording], against: str) -> None:
    held = site.held(registrations, against)
    assert len(guardrails(held)) == 6
    assert all(against in message and "Traceback" not in message for _, _, message in held)


def test_an_unreadable_acceptance_file_blocks_with_its_error(site: Site, registrations: list[Recording]) -> None:
    site.accept({"guardrail": "queue-lots", "tenant": "acme", "object": "x", "reason": "meant"})
    held = site.held(registrations, None)
    assert "did you mean 'queue-lost'?" in held[0][2]


def test_a_tenant_stack_is_compared_with_its_own_config(site: Site, registrations: list[Recording]) -> None:
    fewer = [module for module in ALL_MODULES if module != "portal"]
    site.project.tenants(tenant("acme", *fewer), tenant("beta", "crm", plan="basic", status="suspended"))
    before, after = of("acme", registrations), of("acme", site.registrations())
    site.project.tenants()  # no business of this stack
    alone = site.one_tenant(tenant("acme", *ALL_MODULES))
    assert alone.held(before, "HEAD") == []
    alone.commit()
    assert alone.held(before) == []
    alone = site.one_tenant(tenant("acme", *fewer))
    assert guardrails(alone.held(after)) == {"queue-lost"}


def of(name: str, recordings: list[Recording]) -> list[Recording]:
    """Return the registrations of a tenant stack's program."""
    return [r for r in recordings if r.goal.name == name or r.goal.name.startswith(f"{name}/")]
