"""The registry row after a failed operation: as requested, or as before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.errors import RegistryUnavailable
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.tenants import Tenant
from tests.support.lifecycle_env import LifecycleEnv, cells_of
from tests.support.project import free_port

ID = "faulty"


class Scripted:
    """A engine that creates nothing and fails as scripted."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []
        self.ran: list[StackSpec] = []
        self.made: dict[str, Any] = {}

    @property
    def configs(self) -> list[Mapping[str, Any]]:
        return [stack.config or {} for stack in self.ran]

    def up(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        self.ran.append(stack)
        if self.fails:
            raise self.fails.pop(0)
        self.made = dict((stack.config or {})["kryonix:tenant"])
        return Summary({"create": 1}, ())

    def refresh(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        return Summary({"same": 1}, ())

    def export(self, stack: StackSpec) -> dict[str, Any]:
        return {}

    def marks(self, names: Collection[str]) -> dict[str, str]:
        return {}

    def program_digest(self) -> str:
        return ""

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        if stack.name == f"tenant-{ID}":
            names = ("vhost", "username", "password", "amqp_uri")
            made = {key: self.made[key] for key in ("modules", "plan")}
            return {"tenants": {ID: dict.fromkeys(names, "x") | made}} if self.made else {}
        return {"management_url": f"http://127.0.0.1:{free_port()}", "admin_username": "a", "admin_password": "b"}


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def lifecycle(env: LifecycleEnv, scripted: Scripted) -> Iterator[TenantLifecycle]:
    """A tenant with an absent broker and the scripted engine."""
    dsn, engine = str(env.broker.outputs["registry_dsn"]), scripted
    made = TenantLifecycle(dsn, engine, cells_of(env.project.stack), default_catalog())  # type: ignore[arg-type]
    made.create(Tenant(id=ID, modules=("crm",), plan="basic"))
    yield made
    env.execute(f"DELETE FROM tenants.desired_states WHERE cliente_id = '{ID}'")


def test_a_change_interrupted_by_a_stopped_service_resumes(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    scripted.fails = [EngineFailed("the broker does not answer", 3)]
    with pytest.raises(EngineFailed, match="does not answer"):
        lifecycle.change(ID, plan="pro")
    state = lifecycle.state(ID)
    assert (state.plan, state.converged) == ("pro", False)
    lifecycle.converge(ID)
    assert lifecycle.state(ID).converged
    assert scripted.configs[-1]["kryonix:tenant"]["plan"] == "pro"


def test_a_refused_change_leaves_the_row_unchanged(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    scripted.fails = [EngineFailed("tenants: can't be", 2)]
    with pytest.raises(EngineFailed):
        lifecycle.change(ID, plan="pro")
    assert lifecycle.state(ID).plan == "basic"


def test_a_change_refused_on_retry_restores_the_row(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    scripted.fails = [EngineFailed("the broker does not answer", 3), EngineFailed("tenants: can't be", 2)]
    for said in ("does not answer", "can't be"):
        with pytest.raises(EngineFailed, match=said):
            lifecycle.change(ID, plan="pro")
    assert lifecycle.state(ID).plan == "basic"


def test_an_overlap_stays_due_until_the_old_user_is_gone(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    lifecycle.rotate(ID, overlap=timedelta(microseconds=1))
    scripted.fails = [EngineFailed("the broker does not answer", 3)]
    with pytest.raises(EngineFailed):
        lifecycle.settle(ID)
    assert ID in lifecycle.due()
    lifecycle.settle(ID)
    assert ID not in lifecycle.due()
    state = lifecycle.state(ID)
    assert (state.credentials_generation, state.retiring_generation, state.converged) == (2, None, True)
    assert "retiring" not in scripted.configs[-1]["kryonix:credentials"]


def test_a_failed_rotation_keeps_all_credentials(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    before = lifecycle.state(ID)
    scripted.fails = [EngineFailed("something broke", 1)]
    with pytest.raises(EngineFailed):
        lifecycle.rotate(ID, from_generation=1)
    failed = lifecycle.state(ID)
    assert (failed.credentials_generation, failed.retiring_generation, failed.retiring_until) == (1, None, None)
    lifecycle.rotate(ID, from_generation=1)
    after = lifecycle.state(ID)
    assert (after.credentials_generation, after.retiring_generation) == (before.credentials_generation + 1, 1)


def test_an_absent_broker_blocks_offboarding(lifecycle: TenantLifecycle) -> None:
    """There would be no export."""
    before = lifecycle.state(ID)
    with pytest.raises(BrokerUnavailable) as caught:
        lifecycle.offboard(ID)
    assert caught.value.exit_status == 3
    assert lifecycle.state(ID) == before
    assert lifecycle.final_exports(ID) == []


def test_an_interrupted_suspension_is_not_converged(lifecycle: TenantLifecycle) -> None:
    with pytest.raises(BrokerUnavailable):
        lifecycle.suspend(ID)
    state = lifecycle.state(ID)
    assert (state.status, state.converged) == ("suspended", False)


def test_an_absent_registry_is_reported_without_its_password(scripted: Scripted) -> None:
    dsn = f"host=127.0.0.1 port={free_port()} dbname=kryonix user=someone password=hidden-thing"
    away = TenantLifecycle(dsn, scripted, cells_of("dev"), default_catalog())  # type: ignore[arg-type]
    with pytest.raises(RegistryUnavailable, match=r"someone@127\.0\.0\.1") as caught:
        away.suspend(ID)
    assert caught.value.exit_status == 3
    assert "hidden-thing" not in str(caught.value)
    assert scripted.ran == []
