"""The life of one platform of its own, in order: made in spite of kills, guarded, down, refusing, mended, destroyed.

Each test but the last leaves it up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import docker
import httpx
import psycopg
import pytest

from kryonix.topology.ownership import description
from tests.acceptance.conftest import changed
from tests.support.containers import output_of
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

KEPT, GUARDED, EMPTY = (tenant(id, "crm", plan="basic") for id in ("kept", "guarded", "empty"))
QUEUE = "cliente_guarded.crm.leads.create"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project.platform(tmp_path_factory.mktemp("own") / "project", KEPT, GUARDED, EMPTY)
    try:
        project.kill("up", lambda: "docker:index/container:Container" in project.journal)
        project.kill("up", lambda: "running" in [container.status for container in project.containers()])
        project.kill("up", lambda: "rabbitmq:index/vHost:VHost" in project.journal)
        project.must("up")
        yield project
    finally:
        project.remove()


@pytest.fixture(scope="module")
def its_broker(own: Project) -> Iterator[LiveBroker]:
    with LiveBroker(own.outputs()) as found:
        yield found


@pytest.fixture(scope="module")
def plans(own: Project) -> dict[str, Any]:
    return {entry["id"]: entry for entry in json.loads(own.kryonix("plan", "--json").stdout)["tenants"]}


def assert_said(own: Project, operation: str, status: int, *said: str) -> None:
    result = own.run(operation)
    assert result.returncode == status, (result.stdout, result.stderr)
    for part in said:
        assert part in result.stderr, f"{part!r} is not in:\n{result.stderr}"
    assert "Traceback" not in result.stderr


@contextmanager
def stopped(own: Project, short: str) -> Iterator[None]:
    client = docker.from_env()
    container = client.containers.get(f"kryonix-{own.stack}-{short}")
    container.stop(timeout=30)
    try:
        yield
    finally:
        container.start()
        # Until then a command reports any error as that of a service that is still starting.
        name = container.name
        eventually(f"{name} is healthy", lambda: client.containers.get(name).health == "healthy")
        client.close()


def test_a_platform_killed_during_creation_is_completed(
    own: Project, its_broker: LiveBroker, plans: dict[str, Any]
) -> None:
    for planned in plans.values():
        its_broker.assert_is(planned)
    assert changed(own.must("preview")) == []


def test_a_vhost_that_is_made_and_not_started_takes_connections_after_up(own: Project, its_broker: LiveBroker) -> None:
    """The broker leaves it so where a killed run's request was cut short, and starts it up to 30 s later: not here."""
    mark = {"description": description("cut", own.stack), "default_queue_type": "quorum"}
    its_broker.put("vhosts", "/cliente_cut", json=mark)
    client = docker.from_env()
    node = client.containers.get(f"kryonix-{own.stack}-rabbitmq")
    stop = 'rabbit_vhosts:disable_reconciliation(), rabbit_vhost_sup_sup:delete_on_all_nodes(<<"/cliente_cut">>).'
    output_of(node, "rabbitmqctl", "eval", stop)
    assert set(its_broker.get("vhosts", "/cliente_cut")["cluster_state"].values()) == {"stopped"}
    own.tenants(KEPT, GUARDED, EMPTY, tenant("cut", "crm", plan="basic"))
    own.must("up")
    queue = "cliente_cut.crm.leads.create"
    its_broker.publish("/cliente_cut", queue)
    assert its_broker.take("/cliente_cut", queue, 10) == 1
    own.tenants(KEPT, GUARDED, EMPTY)
    own.must("up")
    output_of(node, "rabbitmqctl", "eval", "rabbit_vhosts:enable_reconciliation(), rabbit_vhosts:reconcile().")
    client.close()


def test_a_tenant_taken_off_the_list_is_removed_if_its_queues_are_empty(
    own: Project, its_broker: LiveBroker, plans: dict[str, Any]
) -> None:
    own.tenants(KEPT, GUARDED)
    deletions = [step for step in changed(own.must("preview")) if step.startswith("delete ")]
    assert "delete empty/vhost" in deletions
    assert all(step.startswith("delete empty") for step in deletions)
    its_broker.assert_is(plans["empty"])
    own.must("up")
    its_broker.assert_is_gone(plans["empty"])
    its_broker.assert_is(plans["kept"])


def test_a_tenant_whose_queues_hold_messages_is_not_removed(
    own: Project, its_broker: LiveBroker, plans: dict[str, Any]
) -> None:
    its_broker.publish("/cliente_guarded", QUEUE, 2)
    own.tenants(KEPT)
    for operation in ("preview", "up"):
        assert_said(own, operation, 2, f"2 messages in {QUEUE} (vhost /cliente_guarded)", "kryonix:allowDelete")
    own.tenants(KEPT, GUARDED)
    # A `destroy` doesn't ask the program: there the broker's own safeguards refuse, before anything else goes.
    assert_said(own, "destroy", 2, f"2 messages in {QUEUE}")
    for id in ("kept", "guarded"):
        its_broker.assert_is(plans[id])
    assert changed(own.must("up")) == []
    assert its_broker.take("/cliente_guarded", QUEUE, 10) == 2


def test_one_run_removes_a_tenant_and_messages_of_accepted_loss(
    own: Project, its_broker: LiveBroker, plans: dict[str, Any]
) -> None:
    own.tenants(KEPT, GUARDED, EMPTY)
    own.must("up")
    queue = "cliente_empty.crm.leads.create"
    its_broker.publish("/cliente_empty", queue)
    own.tenants(KEPT, GUARDED)
    assert_said(own, "up", 2, f"1 messages in {queue}")
    own.configure(allowDelete=[queue])
    own.must("up")
    its_broker.assert_is_gone(plans["empty"])
    own.configure(allowDelete=None)
    own.must("up")


def test_a_platform_with_another_stacks_tenant_is_not_destroyed(own: Project, its_broker: LiveBroker) -> None:
    beside = own.beside("tenant-guest", tenant=tenant("guest"))
    beside.must("up")
    its_broker.publish("/cliente_guest", "cliente_guest.crm.leads.create")
    named = f"error: the stack '{own.stack}' carries 1 tenant(s) with a stack of their own: guest"
    assert_said(own, "destroy", 2, named, "`kryonix tenant offboard guest`", "deletionProtection")
    assert changed(own.must("up")) == []
    assert its_broker.take("/cliente_guest", "cliente_guest.crm.leads.create", 10) == 1
    beside.must("destroy")


def test_a_stopped_broker_is_reported(own: Project, its_broker: LiveBroker) -> None:
    beside = own.beside("tenant-down", tenant=tenant("down"))
    with stopped(own, "rabbitmq"):
        # A stack that was never up does not know its platform's containers yet.
        assert_said(beside, "up", 3, its_broker.outputs["management_url"], "does not answer")
        assert_said(beside, "preview", 3, f"`docker start kryonix-{own.stack}-rabbitmq`")
        assert_said(own, "refresh", 3, f"`docker start kryonix-{own.stack}-rabbitmq`")
    eventually("the broker answers", its_broker.vhosts, ignoring=(httpx.HTTPError,))
    own.must("up")  # the refresh has noted that the container was stopped


def test_a_refused_administrator_is_reported(own: Project, its_broker: LiveBroker) -> None:
    user = {"password": "another", "tags": "administrator"}
    its_broker.put("users", "kryonix_admin", json=user)
    try:
        assert_said(own, "up", 3, its_broker.outputs["management_url"], "refuses the user 'kryonix_admin'")
    finally:
        admin = ("kryonix_admin", "another")
        mended = {**user, "password": its_broker.outputs["admin_password"]}
        url = f"{its_broker.outputs['management_url']}/api/users/kryonix_admin"
        httpx.put(url, auth=admin, json=mended, timeout=30).raise_for_status()
    assert changed(own.must("up")) == []


def test_a_stopped_database_is_reported_and_the_next_run_continues(own: Project, its_broker: LiveBroker) -> None:
    beside = own.beside("tenant-late", tenant=tenant("late"))
    port = its_broker.outputs["registry_dsn"].rpartition("@")[2].partition("/")[0]
    with stopped(own, "postgres"):
        assert_said(beside, "up", 3, port)
    connect = partial(psycopg.connect, its_broker.outputs["registry_dsn"])
    eventually("the registry answers", connect, ignoring=(psycopg.OperationalError,)).close()
    beside.must("up")
    assert its_broker.has("vhosts", "/cliente_late")
    beside.must("destroy")


def test_up_refills_a_broker_and_a_registry_with_lost_volumes(
    own: Project, its_broker: LiveBroker, plans: dict[str, Any]
) -> None:
    lose(own, "rabbitmq")
    lose(own, "postgres")
    assert own.run("refresh").returncode == 3  # neither answers; that they are gone is in the state all the same
    own.must("up")  # starts both, empty
    own.run("refresh")  # finds them empty; the registry's writer can't log in to say that its rows are gone
    own.must("up")
    own.must("refresh")
    own.must("up")
    for id in ("kept", "guarded"):
        its_broker.assert_is(plans[id])
    with psycopg.connect(its_broker.outputs["registry_dsn"]) as connection:
        rows = connection.execute("SELECT cliente_id, status FROM tenants.rabbitmq_configurations").fetchall()
    assert sorted(rows) == [("guarded", "ativo"), ("kept", "ativo")]
    assert changed(own.must("refresh")) == []
    assert changed(own.must("preview")) == []


def lose(project: Project, short: str) -> None:
    """Take a service's container and data away by hand."""
    client = docker.from_env()
    name = f"kryonix-{project.stack}-{short}"
    client.containers.get(name).remove(force=True)
    client.volumes.get(f"{name}-data").remove()
    client.close()


def test_destroy_leaves_nothing_even_after_a_kill(own: Project) -> None:
    own.kill("destroy", lambda: own.journal)
    own.kill("destroy", lambda: len(own.containers()) < 2)
    own.must("destroy")
    client = docker.from_env()
    mine = {"name": f"kryonix-{own.stack}-"}
    for kind in (
        client.containers.list(all=True, ignore_removed=True, filters=mine),
        client.volumes.list(filters=mine),
    ):
        assert kind == []
    assert client.networks.list(filters=mine) == []
    client.close()
    again = own.run("destroy")
    assert again.returncode == 0
    assert again.stdout == f"Nothing is deployed in stack '{own.stack}'.\n"
