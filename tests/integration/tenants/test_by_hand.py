"""Operations repair manual changes, restore lost objects, and remove undeclared ones when harmless."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from kryonix.engines.engine import StackSpec
from kryonix.fleet.drift import Drift, find_drift
from kryonix.tenants.credentials import Credentials
from kryonix.topology.credentials import is_hash_of
from kryonix.topology.tenants import Tenant
from tests.support.lifecycle_env import LifecycleEnv, cells_of, connects
from tests.support.waiting import eventually

ID, VHOST, USER, MAIN = "by-hand", "/cliente_by-hand", "kryonix_by-hand", "cliente_by-hand"
STATS = f"{USER}.stats"


@pytest.fixture(scope="module")
def changed(env: LifecycleEnv) -> Iterator[LifecycleEnv]:
    with env.leaving_nothing():
        env.create(ID, "crm")
        yield env


@pytest.fixture
def credentials(changed: LifecycleEnv) -> Credentials:
    return changed.lifecycle.create(Tenant(id=ID, modules=("crm",), plan="basic"), again=True)


def everything(changed: LifecycleEnv) -> tuple[Any, ...]:
    """Return the tenant's broker objects without messages and passwords."""
    broker = changed.broker
    limits = [broker.user_limits(user) for user in (USER, STATS)]
    tags = [broker.get("users", user)["tags"] for user in (USER, STATS)]
    return broker.topology(VHOST), broker.permissions(VHOST), broker.vhost_limits(VHOST), limits, tags


def test_converging_repairs_manual_deletions_and_changes(changed: LifecycleEnv, credentials: Credentials) -> None:
    broker = changed.broker
    before = everything(changed)
    broker.delete("queues", VHOST, f"{MAIN}.crm.tasks.assign")
    broker.delete("permissions", VHOST, USER)
    broker.delete("bindings", VHOST, "e", MAIN, "q", f"{MAIN}.crm.leads.create", "crm.leads.create.%2A")
    broker.delete("policies", VHOST, "modulo-crm")
    broker.delete("operator-policies", VHOST, f"autoscaling-{ID}")
    broker.delete("vhost-limits", VHOST, "max-connections")
    broker.delete("user-limits", USER, "max-channels")
    broker.delete("exchanges", VHOST, f"{MAIN}.crm.dlx")
    broker.put("users", USER, json={"password": "another", "tags": "management"})
    broker.put("users", STATS, json={"password": "another", "tags": "management"})
    broker.delete("user-limits", STATS, "max-connections")
    broker.put("permissions", VHOST, STATS, json={"configure": ".*", "write": ".*", "read": ".*"})
    changed.execute(f"DELETE FROM tenants.rabbitmq_credentials WHERE cliente_id = '{ID}'")
    changed.execute(f"UPDATE tenants.rabbitmq_configurations SET plano = 'pro' WHERE cliente_id = '{ID}'")
    assert changed.lifecycle.converge(ID).changed
    assert everything(changed) == before
    assert connects(credentials)
    assert is_hash_of(broker.get("users", STATS)["password_hash"], credentials.password)
    rows = changed.query(
        "SELECT plano, username FROM tenants.rabbitmq_configurations "
        f"JOIN tenants.rabbitmq_credentials USING (cliente_id) WHERE cliente_id = '{ID}'"
    )
    assert rows == [("basic", USER)]
    assert not changed.lifecycle.converge(ID).changed


def test_undeclared_objects_are_found_and_removed_when_harmless(changed: LifecycleEnv) -> None:
    broker = changed.broker
    before = broker.topology(VHOST)
    broker.put("exchanges", VHOST, "strange", json={"type": "fanout", "durable": True})
    broker.put("queues", VHOST, "rogue", json={"durable": True})
    broker.publish(VHOST, "rogue")
    broker.put("policies", VHOST, "odd", json={"pattern": "^z", "definition": {"max-length": 1}})
    broker.put("operator-policies", VHOST, "odd-op", json={"pattern": "^z", "definition": {"max-length": 1}})
    broker.put("users", f"{USER}.7", json={"password": "x", "tags": ""})
    broker.put("permissions", VHOST, f"{USER}.7", json={"configure": ".*", "write": ".*", "read": ".*"})
    broker.call("POST", "bindings", VHOST, "e", MAIN, "q", "rogue", json={"routing_key": "#"}).raise_for_status()
    twin = {"routing_key": "crm.leads.update.*", "arguments": {"x": "y"}}
    broker.call("POST", "bindings", VHOST, "e", MAIN, "q", f"{MAIN}.crm.leads.update", json=twin).raise_for_status()
    try:
        states = [changed.lifecycle.state(ID)]
        (drift,) = find_drift(changed.engine, cells_of(changed.project.stack), states, concurrency=1)
        assert drift.differs
        assert drift.problem == ""
        assert drift.undeclared is not None
        found = {"exchange": 1, "queue": 1, "policy": 1, "operator policy": 1, "permission": 1, "user": 1}
        assert {kind: drift.undeclared.counts[kind] for kind in found} == found
        assert drift.undeclared.counts["binding"] == 2
        changed.lifecycle.converge(ID)
        eventually("the queue reports its message", lambda: broker.get("queues", VHOST, "rogue").get("messages"))
        left = changed.lifecycle.undeclared(ID)
        assert left.counts == {"exchange": 1, "queue": 1, "user": 1}
        assert any("rogue (1 messages)" in line for line in left.lines())
        assert f"{USER}.7" not in broker.permissions(VHOST)
    finally:
        broker.delete("queues", VHOST, "rogue")
        broker.delete("exchanges", VHOST, "strange")
        broker.delete("users", f"{USER}.7")
    assert broker.topology(VHOST) == before
    assert not changed.lifecycle.undeclared(ID)


def test_drift_names_the_remedy_after_a_platform_has_moved(changed: LifecycleEnv) -> None:
    """The state has an address where nothing is any more; nothing has been moved by hand."""

    def moved(deployment: dict[str, Any]) -> dict[str, Any]:
        for resource in deployment["deployment"]["resources"]:
            if resource["type"] == "pulumi:providers:rabbitmq":
                for properties in (resource["inputs"], resource["outputs"]):
                    properties["endpoint"] = "http://127.0.0.1:1"
        return deployment

    def drift() -> Drift:
        (found,) = find_drift(changed.engine, cells_of(changed.project.stack), [state], concurrency=1)
        return found

    state = changed.lifecycle.state(ID)
    changed.engine.rewrite(StackSpec(name=f"tenant-{ID}"), moved)
    assert re.fullmatch(r"broker: .* another address .* `kryonix fleet rollout`.*", drift().problem)
    changed.lifecycle.converge(ID)
    assert not drift().problem


def test_old_credentials_expire_for_a_tenant_beyond_its_plan(changed: LifecycleEnv) -> None:
    """Slow: a tenant of all modules is deployed, changed and removed."""
    everything = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics", "portal", "whitelabel")
    with changed.leaving_nothing():
        first = changed.create("over-plan", *everything, plan="pro")
        second = changed.lifecycle.rotate("over-plan", overlap=timedelta(microseconds=1))
        changed.execute("UPDATE tenants.desired_states SET plan = 'basic' WHERE cliente_id = 'over-plan'")
        changed.lifecycle.settle("over-plan")
        assert (connects(first), connects(second)) == (False, True)
        assert "over-plan" not in changed.lifecycle.due()
        changed.execute("UPDATE tenants.desired_states SET plan = 'pro' WHERE cliente_id = 'over-plan'")
        changed.lifecycle.converge("over-plan")


def lose(env: LifecycleEnv, vhost: bool = True, user: bool = True) -> None:
    """As somebody would by hand."""
    if vhost:
        env.broker.call("DELETE", "vhosts", VHOST, "deletion", "protection")
        env.broker.delete("vhosts", VHOST)
    if user:
        env.broker.delete("users", USER)


@pytest.mark.parametrize(("vhost", "user"), [(True, True), (True, False), (False, True)])
def test_converging_restores_lost_objects_with_the_same_credentials(
    changed: LifecycleEnv, credentials: Credentials, vhost: bool, user: bool
) -> None:
    lose(changed, vhost, user)
    assert not connects(credentials)
    changed.lifecycle.converge(ID)
    assert connects(credentials)
    queues = {queue["name"] for queue in changed.broker.call("GET", "queues", VHOST).json()}
    assert "cliente_by-hand.crm.leads.create" in queues
    assert changed.broker.call("GET", "user-limits", USER).json() != []
    assert changed.lifecycle.converge(ID).changes.keys() <= {"same", "read"}


def test_creating_a_tenant_again_restores_lost_objects(changed: LifecycleEnv, credentials: Credentials) -> None:
    lose(changed)
    # As a registry that was made anew with the broker has it: the tenant is asked for the first time.
    changed.execute(f"DELETE FROM tenants.desired_states WHERE cliente_id = '{ID}'")
    changed.execute(f"UPDATE tenants.rabbitmq_configurations SET status = 'removido' WHERE cliente_id = '{ID}'")
    assert changed.create(ID, "crm") == credentials
    assert connects(credentials)


def test_a_run_that_failed_on_lost_objects_is_repaired(changed: LifecycleEnv, credentials: Credentials) -> None:
    lose(changed)
    changed.lifecycle.change(ID, plan="pro")  # other user limits, for a user that is not there
    assert connects(credentials)
    changed.lifecycle.change(ID, plan="basic")
