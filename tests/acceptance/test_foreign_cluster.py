"""A tenant's stack on a cluster and a registry that this project did not make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kryonix.messaging import MessagingClient
from tests.acceptance.conftest import changed
from tests.integration.signup.conftest import WRITER, Registry, server
from tests.support.cluster import Cluster, cluster
from tests.support.project import Project
from tests.support.waiting import eventually

__all__ = ["server"]

OWN = {"id": "own", "modules": ["crm"], "plan": "basic"}
VHOST = "/cliente_own"


@dataclass(frozen=True)
class Foreign:
    """A cluster, and a stack whose tenant lives on it."""

    cluster: Cluster
    own: Project


@pytest.fixture(scope="module")
def foreign(server: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    own = Project(tmp_path_factory.mktemp("foreign") / "project", "tenant-own")
    with cluster() as found:
        address, _, port = found.addresses[0].partition(":")
        own.configure(
            tenant=OWN,
            managementUrl=f"http://127.0.0.1:{found.management_ports[0]}",
            advertisedHost=address,
            amqpPort=int(port),
            adminUsername=found.login[0],
        )
        own.configure(adminPassword=own.secret(found.login[1]), registryDsn=own.secret(server.dsn(WRITER)))
        own.must("up")
        yield Foreign(found, own)


def test_every_queue_of_the_tenant_has_three_members(foreign: Foreign) -> None:
    with foreign.cluster.broker_at(0) as broker:
        queues = broker.get("queues", VHOST)
    assert {len(queue["members"]) for queue in queues} == {3}


def test_the_next_run_changes_nothing(foreign: Foreign) -> None:
    assert changed(foreign.own.must("preview")) == []


def test_messages_and_changes_go_on_without_a_node(foreign: Foreign) -> None:
    (tenant,) = foreign.own.must("outputs", "--show-secrets")["tenants"].values()

    async def send() -> None:
        nodes = foreign.cluster.addresses
        async with await MessagingClient.connect(amqp_uri=tenant["amqp_uri"], addresses=nodes) as client:
            await client.send("crm", "leads.create", {"name": "Ana"})

    foreign.cluster.kill(2)
    try:
        asyncio.run(send())
        foreign.own.configure(tenant={**OWN, "modules": ["crm", "financeiro"]})
        foreign.own.must("up")
    finally:
        foreign.cluster.start(2)
    eventually("the node is back", lambda: foreign.cluster.has(3))
    assert changed(foreign.own.must("preview")) == []
