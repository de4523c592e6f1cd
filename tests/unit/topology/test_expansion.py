from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.capacity import expand_within_plans, smallest_plan, use
from kryonix.topology.catalog import MIB, Catalog, Module, default_catalog
from kryonix.topology.errors import CapacityExceeded
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.objects import Permissions, Policy
from kryonix.topology.tenants import Tenant

CATALOG = default_catalog()
ALL = tuple(CATALOG.modules)


def tenant(*modules: str, plan: str = "enterprise", status: str = "active", id: str = "acme") -> Tenant:
    return Tenant.model_validate({"id": id, "modules": list(modules), "plan": plan, "status": status})


def catalog(strategy: str = "native", lanes: dict[str, tuple[str, ...]] | None = None) -> Catalog:
    crm = CATALOG.modules["crm"].model_copy(update={"priority_lanes": lanes or {}})
    retry = CATALOG.retry.model_copy(update={"strategy": strategy})
    return CATALOG.model_copy(update={"modules": {**CATALOG.modules, "crm": crm}, "retry": retry})


def policy(topology: Topology, name: str) -> Policy:
    return next(policy for policy in topology.policies if policy.name == name)


def effective(topology: Topology, queue: str) -> dict[str, str | int]:
    """Return the broker's effective policy: the highest one merged with the operator policy, smaller limits win."""
    matching = [p for p in topology.policies if re.search(p.pattern, queue)]
    chosen = max((p for p in matching if p.kind == "policy"), key=lambda p: p.priority, default=None)
    merged = dict(chosen.definition) if chosen else {}
    for operator in (p for p in matching if p.kind == "operator"):
        for key, value in operator.definition.items():
            smaller = isinstance(value, int) and key in merged
            merged[key] = min(int(merged[key]), int(value)) if smaller else value
    return merged


def test_a_tenant_with_all_modules_has_the_objects_that_were_counted() -> None:
    topology = expand(tenant(*ALL), CATALOG)
    counts = tuple(map(len, (topology.exchanges, topology.queues, topology.bindings, topology.policies)))
    assert counts == (13, 87, 165, 10)


def test_the_source_documents_example_fits_its_50_queues() -> None:
    topology = expand(tenant("crm", "whatsapp", "agendamento", plan="basic"), CATALOG)
    assert (len(topology.queues), topology.limits.max_queues) == (37, 50)


def test_an_action_queues_arguments_never_change() -> None:
    queue = next(q for q in expand(tenant("crm"), CATALOG).queues if q.name == "cliente_acme.crm.leads.create")
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "cliente_acme.crm.dlx",
        "x-dead-letter-routing-key": "crm.leads.create.dlq",
    }


def test_all_queues_are_quorum_queues() -> None:
    topology = expand(tenant(*ALL), catalog("queues"))
    assert {q.arguments["x-queue-type"] for q in topology.queues} == {"quorum"}


def test_publish_exchanges_send_unroutable_messages_to_unrouted() -> None:
    topology = expand(tenant("crm"), CATALOG)
    alternates = {e.name: e.arguments.get("alternate-exchange") for e in topology.exchanges}
    assert alternates == {
        "cliente_acme": "cliente_acme.unrouted",
        "cliente_acme.mobile_priority": "cliente_acme.unrouted",
        "cliente_acme.business_critical": "cliente_acme.unrouted",
        "cliente_acme.automation": "cliente_acme.unrouted",
        "cliente_acme.unrouted": None,
        "cliente_acme.crm.dlx": None,
    }


@pytest.mark.parametrize(
    ("exchange", "modules"),
    [
        ("mobile_priority", {"crm", "whatsapp", "agendamento", "marketing", "analytics", "portal"}),
        ("business_critical", {"crm", "financeiro"}),
        ("automation", {"crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics"}),
    ],
)
def test_a_special_exchange_reaches_the_modules_that_have_its_flag(exchange: str, modules: set[str]) -> None:
    bindings = expand(tenant(*ALL), CATALOG).bindings
    reached = {b.destination.split(".")[1] for b in bindings if b.source == f"cliente_acme.{exchange}"}
    assert reached == modules


def test_module_queues_keep_retry_and_limit_by_a_policy() -> None:
    definition = policy(expand(tenant("crm"), CATALOG), "modulo-crm").definition
    assert definition == {
        "message-ttl": 86_400_000,
        "delivery-limit": 3,
        "delayed-retry-type": "all",
        "delayed-retry-min": 1_000,
        "delayed-retry-max": 60_000,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "max-length": 50_000,
    }


def test_queues_of_modules_without_mobile_priority_have_no_mobile_limit() -> None:
    assert "max-length" not in policy(expand(tenant("financeiro"), CATALOG), "modulo-financeiro").definition


def test_the_plans_depth_holds_for_every_queue_but_dead_letter_queues() -> None:
    topology = expand(tenant(*ALL, plan="enterprise"), CATALOG)
    for queue in topology.queues:
        if queue.name.endswith(".dlq"):
            assert effective(topology, queue.name) == {
                "message-ttl": 86_400_000,
                "max-length": 10_000,
                "max-length-bytes": 16 * MIB,
                "delivery-limit": -1,
            }
        else:
            assert effective(topology, queue.name)["max-length"] == 10_000
            assert effective(topology, queue.name)["max-length-bytes"] == 64 * MIB


@given(st.sampled_from(list(CATALOG.plans)), st.sampled_from(["native", "queues"]))
def test_every_queue_that_dead_letters_at_least_once_rejects_when_full(plan: str, strategy: str) -> None:
    topology = expand(tenant(*ALL, plan=plan), catalog(strategy))
    for queue in topology.queues:
        if "x-dead-letter-exchange" in queue.arguments:
            definition = effective(topology, queue.name)
            assert definition["dead-letter-strategy"] == "at-least-once"
            assert definition["overflow"] == "reject-publish"


@given(st.sampled_from(list(CATALOG.plans)), st.sampled_from(["native", "queues"]))
def test_every_queue_has_a_bound_in_bytes_and_capacity_is_their_sum(plan: str, strategy: str) -> None:
    topology = expand(tenant(*ALL, plan=plan), catalog(strategy))
    bounds = [int(effective(topology, queue.name)["max-length-bytes"]) for queue in topology.queues]
    assert use(topology).bytes == sum(bounds)


@given(st.sampled_from(["native", "queues"]))
def test_applications_read_no_exchange_and_write_to_no_queue(strategy: str) -> None:
    topology = expand(tenant(*ALL), catalog(strategy, lanes={"leads.create": ("high",)}))
    permissions = topology.permissions
    assert not [e.name for e in topology.exchanges if re.search(permissions.read, e.name)]
    assert not [q.name for q in topology.queues if re.search(permissions.write, q.name)]


def test_applications_write_to_exchanges_read_queues_configure_nothing() -> None:
    topology = expand(tenant(*ALL), CATALOG)
    permissions, unrouted = topology.permissions, "cliente_acme.unrouted"
    exchanges, queues = {e.name for e in topology.exchanges}, {q.name for q in topology.queues}
    assert permissions.configure == "^$"
    assert {name for name in exchanges | queues if re.search(permissions.write, name)} == exchanges - {unrouted}
    assert {name for name in exchanges | queues if re.search(permissions.read, name)} == queues - {unrouted}
    for foreign in ("", "amq.default", "amq.topic", "cliente_acmes", "cliente_acmes.crm.dlx", "x.cliente_acme"):
        assert not re.search(permissions.write, foreign)
        assert not re.search(permissions.read, foreign)


def test_a_suspended_tenant_keeps_all_but_connections_and_rights() -> None:
    active, suspended = (expand(tenant("crm", status=s), CATALOG) for s in ("active", "suspended"))
    assert (active.max_connections, suspended.max_connections) == (100, 0)
    assert suspended.queues == active.queues
    assert (active.granted, active.stats_tags) == (active.permissions, ("management",))
    assert (suspended.granted, suspended.stats_tags) == (Permissions("^$", "^$", "^$"), ())
    assert suspended.permissions == active.permissions


def test_a_priority_lane_gets_its_priority_the_action_queue_the_others() -> None:
    topology = expand(tenant("crm"), catalog(lanes={"leads.create": ("high",)}))
    queue = "cliente_acme.crm.leads.create"
    keys = {(b.destination, b.routing_key) for b in topology.bindings if b.source == "cliente_acme"}
    assert (f"{queue}.high", "crm.leads.create.high") in keys
    assert {key for destination, key in keys if destination == queue} == {
        "crm.leads.create.medium",
        "crm.leads.create.low",
    }


def test_the_strategy_queues_makes_a_retry_queue_per_attempt() -> None:
    topology = expand(tenant("crm"), catalog("queues"))
    queue = "cliente_acme.crm.leads.create"
    retries = [q for q in topology.queues if q.name.startswith(f"{queue}.retry.")]
    assert [q.name for q in retries] == [f"{queue}.retry.{n}" for n in (1, 2, 3)]
    assert {q.arguments["x-dead-letter-routing-key"] for q in retries} == {queue}
    assert {q.arguments["x-dead-letter-exchange"] for q in retries} == {""}
    assert [effective(topology, q.name)["message-ttl"] for q in retries] == [1_000, 2_000, 3_000]
    keys = {b.routing_key for b in topology.bindings if b.destination in {q.name for q in retries}}
    assert keys == {f"crm.leads.create.retry.{n}" for n in (1, 2, 3)}
    assert "delayed-retry-type" not in policy(topology, "modulo-crm").definition


def test_changing_retry_plan_or_retention_changes_no_queues_arguments() -> None:
    before = {q.name: q.arguments for q in expand(tenant("crm", plan="basic"), CATALOG).queues}
    longer = CATALOG.modules["crm"].model_copy(update={"retention": 1, "priority_levels": 9})
    other = catalog("queues").model_copy(update={"modules": {"crm": longer}})
    after = {q.name: q.arguments for q in expand(tenant("crm", plan="pro"), other).queues}
    assert {name: after[name] for name in before} == before


modules = st.lists(st.sampled_from(ALL), min_size=1, unique=True)


@given(
    st.from_regex(TENANT_ID, fullmatch=True),
    modules,
    st.sampled_from(["native", "queues"]),
    st.sampled_from([{}, {"leads.create": ("high",)}, {"leads.create": ("high", "low"), "tasks.assign": ("medium",)}]),
)
def test_any_expansion_is_complete(
    id: str, chosen: list[str], strategy: str, lanes: dict[str, tuple[str, ...]]
) -> None:
    topology = expand(tenant(*chosen, id=id), catalog(strategy, lanes))
    exchanges, queues = {e.name for e in topology.exchanges}, {q.name for q in topology.queues}
    assert len(exchanges) == len(topology.exchanges)
    assert len(queues) == len(topology.queues)
    assert len(set(topology.bindings)) == len(topology.bindings)
    assert not any(re.match(topology.permissions.write, name) for name in queues)
    assert all(re.match(topology.permissions.read, name) for name in queues - {topology.tenant.names.unrouted})
    assert all(re.match(topology.tenant.names.own_objects, name) for name in exchanges | queues)
    assert all(b.source in exchanges and b.destination in queues for b in topology.bindings)
    assert queues == {b.destination for b in topology.bindings}
    assert all(len(name.encode()) <= 255 for name in queues | exchanges)
    for queue in topology.queues:
        target = queue.arguments.get("x-dead-letter-exchange")
        key = queue.arguments.get("x-dead-letter-routing-key")
        if target:
            assert any(b.source == target and b.routing_key == key for b in topology.bindings)
        elif target == "":
            assert key in queues


@given(modules)
def test_the_order_of_modules_affects_only_order(chosen: list[str]) -> None:
    one, other = (expand(tenant(*order), CATALOG) for order in (chosen, chosen[::-1]))
    assert set(map(repr, one.queues)) == set(map(repr, other.queues))
    assert set(one.bindings) == set(other.bindings)


def test_modules_that_do_not_fit_are_refused_with_the_smallest_plan() -> None:
    with pytest.raises(CapacityExceeded) as caught:
        expand_within_plans(
            [tenant(*ALL, plan="basic"), tenant("crm", plan="basic", id="fine")], CATALOG, "tenants.yaml"
        )
    message = str(caught.value)
    assert "tenant 'acme'" in message
    assert "87 queues of 50 allowed and 13 exchanges of 10 allowed" in message
    assert "crm 14, whatsapp 12" in message
    assert "The smallest plan that fits is 'pro'" in message
    assert "'fine'" not in message


def test_the_exchange_limit_is_checked_besides_the_queue_limit() -> None:
    lean = Module.model_validate(
        {"actions": ["x"], "retention": "1h", "priority_levels": 1, "mobile_priority": False, "ai_routing": False}
    )
    many = CATALOG.model_copy(update={"modules": {f"m{n}": lean for n in range(6)}})
    with pytest.raises(CapacityExceeded, match="11 exchanges of 10 allowed"):
        expand_within_plans([tenant(*many.modules, plan="basic")], many, "f")


def test_a_refusal_says_when_no_plan_fits() -> None:
    huge = expand(tenant(*ALL), CATALOG)
    tiny = CATALOG.model_copy(update={"plans": {"basic": CATALOG.plans["basic"]}})
    assert smallest_plan(use(huge), tiny) is None
