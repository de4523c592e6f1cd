"""Rules for a tenant's current state: an expansion passes, each violation is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kryonix.review.guardrails import Guardrail
from kryonix.review.rules import CurrentState, state_findings
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.naming import Names
from kryonix.topology.objects import Permissions
from kryonix.topology.tenants import Tenant

CATALOG = default_catalog()
NAMES = Names("acme")


def current_state(plan: str = "enterprise", *modules: str) -> CurrentState:
    topology = expand(Tenant(id="acme", modules=modules or tuple(CATALOG.modules), plan=plan), CATALOG)
    return CurrentState(topology, {topology.user: topology.permissions})


@pytest.mark.parametrize("plan", CATALOG.plans)
@pytest.mark.parametrize("strategy", ["native", "queues"])
def test_every_expansion_within_its_plan_passes(plan: str, strategy: str) -> None:
    catalog = CATALOG.model_copy(update={"retry": CATALOG.retry.model_copy(update={"strategy": strategy})})
    topology = expand(Tenant(id="acme", modules=("portal",), plan=plan), catalog)
    assert list(state_findings(CurrentState(topology, {topology.user: topology.permissions}))) == []


def test_later_generations_and_narrower_rights_pass() -> None:
    rights = current_state().topology.permissions
    several = {"kryonix_acme": Permissions("^$", "^$", "^$"), "kryonix_acme.2": rights}
    assert list(state_findings(replace(current_state(), rights=several))) == []


def queue(**arguments: str) -> Callable[[CurrentState], CurrentState]:
    def change(was: CurrentState) -> CurrentState:
        first, *others = was.topology.queues
        queues = (replace(first, arguments={**first.arguments, **arguments}), *others)
        return replace(was, topology=replace(was.topology, queues=queues))

    return change


def right(**patterns: str) -> Callable[[CurrentState], CurrentState]:
    return lambda was: replace(was, rights={"kryonix_acme": replace(was.topology.permissions, **patterns)})


def user(name: str, **patterns: str) -> Callable[[CurrentState], CurrentState]:
    rights = replace(Permissions("^$", "^$", "^$"), **patterns)
    return lambda was: replace(was, rights={**was.rights, name: rights})


def unbounded(kind: str) -> Callable[[CurrentState], CurrentState]:
    def change(was: CurrentState) -> CurrentState:
        kept = tuple(policy for policy in was.topology.policies if policy.kind != kind)
        return replace(was, topology=replace(was.topology, policies=kept))

    return change


@pytest.mark.parametrize(
    ("change", "guardrail", "object_"),
    [
        (queue(**{"x-queue-type": "classic"}), Guardrail.queue_lost, "cliente_acme.unrouted"),
        (lambda was: replace(was, transient={"q": "x"}), None, ""),
        (
            lambda was: replace(was, transient={"cliente_acme.unrouted": "is deleted with its last consumer"}),
            Guardrail.queue_lost,
            "cliente_acme.unrouted",
        ),
        (right(configure=".*"), Guardrail.permission_widened, "configure"),
        (right(write="^cliente_"), Guardrail.permission_widened, "write"),
        (right(read=""), Guardrail.permission_widened, "read"),
        (user("somebody"), Guardrail.permission_widened, "somebody"),
        (user("kryonix_acme.x"), Guardrail.permission_widened, "kryonix_acme.x"),
        (user("kryonix_acme2"), Guardrail.permission_widened, "kryonix_acme2"),
        (user("kryonix_acme.3"), None, ""),
        (user("kryonix_acme.stats"), None, ""),
        (user("kryonix_acme.3.stats"), None, ""),
        (user("kryonix_acme.stats", read="^$|^cliente_acme[.]"), Guardrail.permission_widened, "read"),
        (user("kryonix_acme.2.stats", write=NAMES.writable_objects), Guardrail.permission_widened, "write"),
        (user("kryonix_acme.stats.stats"), Guardrail.permission_widened, "kryonix_acme.stats.stats"),
        (user("kryonix_acme.x.stats"), Guardrail.permission_widened, "kryonix_acme.x.stats"),
        (user(".stats"), Guardrail.permission_widened, ".stats"),
        (lambda was: replace(was, unlimited=("vhost max_queues",)), Guardrail.limit_lifted, "vhost max_queues"),
        (unbounded("operator"), Guardrail.limit_lifted, "autoscaling-acme max-length"),
        (unbounded("policy"), Guardrail.limit_lifted, "autoscaling-acme max-length"),
    ],
)
def test_every_rule_violation_is_found_and_named(
    change: Callable[[CurrentState], CurrentState], guardrail: Guardrail | None, object_: str
) -> None:
    found = list(state_findings(change(current_state())))
    assert [(f.guardrail, f.tenant, f.object) for f in found] == ([(guardrail, "acme", object_)] if guardrail else [])


def test_more_queues_than_are_allowed_are_counted() -> None:
    made = current_state("pro", "crm")
    narrow = made.topology.limits.model_copy(update={"max_queues": 3, "max_exchanges": 2})
    found = list(state_findings(replace(made, topology=replace(made.topology, limits=narrow))))
    assert [(f.guardrail, f.object) for f in found] == [(Guardrail.plan_does_not_fit, "pro")] * 2
    assert "where 3 are allowed" in found[0].message
