"""Repeating an operation restores a tenant that the broker has lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kryonix.tenants.credentials import Credentials
from kryonix.topology.tenants import Tenant
from tests.support.lifecycle_env import Town, connects

ID, VHOST, USER = "town-lost", "/cliente_town-lost", "kryonix_town-lost"


@pytest.fixture(scope="module")
def lost(town: Town) -> Iterator[Town]:
    with town.leaving_nothing(ID):
        town.create(ID, "crm")
        yield town


@pytest.fixture
def credentials(lost: Town) -> Credentials:
    return lost.lifecycle.create(Tenant(id=ID, modules=("crm",), plan="basic"), again=True)


def lose(town: Town, vhost: bool = True, user: bool = True) -> None:
    """As somebody would by hand."""
    if vhost:
        town.broker.call("DELETE", "vhosts", VHOST, "deletion", "protection")
        town.broker.delete("vhosts", VHOST)
    if user:
        town.broker.delete("users", USER)


@pytest.mark.parametrize(("vhost", "user"), [(True, True), (True, False), (False, True)])
def test_converging_restores_lost_objects_with_the_same_credentials(
    lost: Town, credentials: Credentials, vhost: bool, user: bool
) -> None:
    lose(lost, vhost, user)
    assert not connects(credentials)
    lost.lifecycle.converge(ID)
    assert connects(credentials)
    queues = {queue["name"] for queue in lost.broker.call("GET", "queues", VHOST).json()}
    assert "cliente_town-lost.crm.leads.create" in queues
    assert lost.broker.call("GET", "user-limits", USER).json() != []
    assert lost.lifecycle.converge(ID).changes.keys() <= {"same", "read"}


def test_creating_a_tenant_again_restores_lost_objects(lost: Town, credentials: Credentials) -> None:
    lose(lost)
    # As a registry that was made anew with the broker has it: the tenant is asked for the first time.
    lost.execute(f"DELETE FROM tenants.desired_states WHERE cliente_id = '{ID}'")
    lost.execute(f"UPDATE tenants.rabbitmq_configurations SET status = 'removido' WHERE cliente_id = '{ID}'")
    assert lost.create(ID, "crm") == credentials
    assert connects(credentials)


def test_a_run_that_failed_on_lost_objects_is_repaired(lost: Town, credentials: Credentials) -> None:
    lose(lost)
    lost.lifecycle.change(ID, plan="pro")  # other user limits, for a user that is not there
    assert connects(credentials)
    lost.lifecycle.change(ID, plan="basic")
