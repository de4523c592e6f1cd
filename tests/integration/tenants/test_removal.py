"""A tenant counts as removed once the broker holds none of its objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kryonix.engines.engine import StackSpec
from kryonix.engines.events import OnEvent, Summary
from kryonix.tenants.errors import NotRemoved, TenantExists, WrongState
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.tenants import Tenant
from tests.support.lifecycle_env import LifecycleEnv, cells_of

ID, VHOST, USER = "leaver", "/cliente_leaver", "kryonix_leaver"


@dataclass
class Idle:
    """A engine that reports success without doing anything."""

    env: LifecycleEnv

    def up(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        return Summary({"same": 1}, ())

    def destroy(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        return Summary({}, ())

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        return self.env.engine.outputs(stack)


@pytest.fixture
def leaving(env: LifecycleEnv) -> Iterator[LifecycleEnv]:
    """A tenant that is offboarded, with a message in a queue."""
    with env.leaving_nothing():
        env.create(ID, "crm")
        env.broker.publish(VHOST, "cliente_leaver.crm.leads.create")
        env.lifecycle.offboard(ID)
        yield env


def registered(env: LifecycleEnv) -> list[tuple[Any, ...]]:
    return env.query(f"SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = '{ID}'")


def test_a_stack_with_lost_state_removes_its_objects(leaving: LifecycleEnv) -> None:
    shutil.rmtree(leaving.project.folder / ".kryonix" / "stacks" / f"tenant-{ID}")
    leaving.execute(f"UPDATE tenants.desired_states SET status = 'removed' WHERE cliente_id = '{ID}'")
    leaving.lifecycle.settle(ID)
    assert not leaving.broker.has("vhosts", VHOST)
    assert not leaving.broker.has("users", USER)
    assert registered(leaving) == [("removido",)]
    assert leaving.lifecycle.state(ID).stage == "removed"


def test_a_removal_is_reported_only_when_complete(leaving: LifecycleEnv) -> None:
    dsn, idle = str(leaving.broker.outputs["registry_dsn"]), Idle(leaving)
    lifecycle = TenantLifecycle(dsn, idle, cells_of(leaving.project.stack), default_catalog())  # type: ignore[arg-type]
    with pytest.raises(NotRemoved, match=f"the broker still has {VHOST}, {USER}"):
        lifecycle.remove(ID, force=True)
    state = lifecycle.state(ID)
    assert (state.stage, state.converged, lifecycle.due()) == ("removing", False, [ID])
    assert registered(leaving) == [("suspenso",)]
    with pytest.raises(WrongState, match="the removal of the tenant 'leaver' is in progress"):
        lifecycle.create(Tenant(id=ID, modules=("crm",), plan="basic"))
    leaving.lifecycle.settle(ID)
    assert leaving.lifecycle.state(ID).stage == "removed"


def test_an_id_reused_by_another_stack_is_not_taken_over(leaving: LifecycleEnv) -> None:
    leaving.lifecycle.remove(ID, force=True)
    leaving.execute(f"UPDATE tenants.rabbitmq_configurations SET status = 'ativo' WHERE cliente_id = '{ID}'")
    with pytest.raises(TenantExists, match="part of another stack"):
        leaving.create(ID, "crm")
    assert not leaving.broker.has("vhosts", VHOST)
    leaving.execute(f"UPDATE tenants.rabbitmq_configurations SET status = 'removido' WHERE cliente_id = '{ID}'")
    leaving.create(ID, "portal")
    assert leaving.broker.has("vhosts", VHOST)
