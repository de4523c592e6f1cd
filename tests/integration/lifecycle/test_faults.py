"""What an operation leaves behind where the stack's run fails: the row is as it is wanted, or as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kryonix.lifecycle.broker import BrokerUnavailable
from kryonix.lifecycle.errors import EngineFailed
from kryonix.lifecycle.stack_spec import StackSpec
from kryonix.lifecycle.tenants import TenantLifecycle
from kryonix.local.events import OnEvent, Summary
from kryonix.registry.errors import RegistryUnavailable
from kryonix.topology.catalog import default_catalog
from kryonix.topology.tenants import Tenant
from tests.harness import free_port
from tests.integration.lifecycle.town import Town, cells_of

ID = "faulty"


class Scripted:
    """A deployer that makes nothing, and fails where it is told to."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []
        self.ran: list[StackSpec] = []

    def up(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        self.ran.append(stack)
        if self.fails:
            raise self.fails.pop(0)
        return Summary({"create": 1}, ())

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        if stack.name == f"tenant-{ID}":
            names = ("vhost", "username", "password", "amqp_uri")
            return {"tenants": {ID: dict.fromkeys(names, "x")}}
        return {"management_url": f"http://127.0.0.1:{free_port()}", "admin_username": "a", "admin_password": "b"}


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def lifecycle(town: Town, scripted: Scripted) -> Iterator[TenantLifecycle]:
    """A tenant whose broker is away, and whose stack is run by the script."""
    dsn, deployer = str(town.broker.outputs["registry_dsn"]), scripted
    made = TenantLifecycle(dsn, deployer, cells_of(town.project.stack), default_catalog())  # type: ignore[arg-type]
    made.create(Tenant(id=ID, modules=("crm",), plan="basic"))
    yield made
    town.execute(f"DELETE FROM tenants.desired_states WHERE cliente_id = '{ID}'")


def test_what_failed_for_a_service_stays_wanted_and_is_gone_on_with(
    lifecycle: TenantLifecycle, scripted: Scripted
) -> None:
    scripted.fails = [EngineFailed("the broker does not answer", 3)]
    with pytest.raises(EngineFailed, match="does not answer"):
        lifecycle.change(ID, plan="pro")
    state = lifecycle.state(ID)
    assert (state.plan, state.converged) == ("pro", False)
    lifecycle.converge(ID)
    assert lifecycle.state(ID).converged
    assert scripted.ran[-1].config["kryonix:tenant"]["plan"] == "pro"


def test_what_was_refused_leaves_the_row_as_it_was(lifecycle: TenantLifecycle, scripted: Scripted) -> None:
    scripted.fails = [EngineFailed("tenants: can't be", 2)]
    with pytest.raises(EngineFailed):
        lifecycle.change(ID, plan="pro")
    assert lifecycle.state(ID).plan == "basic"


def test_a_broker_that_is_away_keeps_a_tenant_from_leaving(lifecycle: TenantLifecycle) -> None:
    """There would be no export."""
    before = lifecycle.state(ID)
    with pytest.raises(BrokerUnavailable) as caught:
        lifecycle.offboard(ID)
    assert caught.value.exit_status == 3
    assert lifecycle.state(ID) == before
    assert lifecycle.final_exports(ID) == []


def test_a_suspension_that_could_not_cut_off_is_not_done(lifecycle: TenantLifecycle) -> None:
    with pytest.raises(BrokerUnavailable):
        lifecycle.suspend(ID)
    state = lifecycle.state(ID)
    assert (state.status, state.converged) == ("suspended", False)


def test_a_registry_that_is_away_is_told_without_its_password(scripted: Scripted) -> None:
    dsn = f"host=127.0.0.1 port={free_port()} dbname=kryonix user=someone password=hidden-thing"
    away = TenantLifecycle(dsn, scripted, cells_of("dev"), default_catalog())  # type: ignore[arg-type]
    with pytest.raises(RegistryUnavailable, match=r"someone@127\.0\.0\.1") as caught:
        away.suspend(ID)
    assert caught.value.exit_status == 3
    assert "hidden-thing" not in str(caught.value)
    assert scripted.ran == []
