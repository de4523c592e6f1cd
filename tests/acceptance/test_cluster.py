"""A platform of three nodes: made, unchanged, short of one node or two, repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest

from kryonix.rabbitmq.broker import Broker
from tests.acceptance.conftest import changed
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

NODES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of three nodes, with a tenant in its list."""
    folder = tmp_path_factory.mktemp("cluster") / "project"
    project = Project.platform(folder, tenant("acme", "portal", plan="basic"))
    project.configure(brokerNodes=NODES, brokerMemoryMb=512)
    with project.running():
        yield project


@pytest.fixture
def nodes(cluster: Project) -> Iterator[list[Any]]:
    """The containers of the nodes, in order. All run, and know each other, before the test and after it."""
    with closing(docker.from_env()) as client:
        found = [client.containers.get(node["container"]) for node in cluster.outputs()["broker_nodes"]]
        yield found
        for node in found:
            node.start()
    eventually("all nodes run", lambda: all(running(cluster, number) == NODES for number in range(NODES)))


def broker_at(cluster: Project, number: int) -> Broker:
    outputs = cluster.outputs()
    return Broker(outputs["management_urls"][number], outputs["admin_username"], outputs["admin_password"])


def running(cluster: Project, number: int) -> int:
    """Return how many nodes one of them sees, 0 if it does not answer."""
    with broker_at(cluster, number) as broker:
        return sum(broker.nodes().values()) if broker.answers() else 0


def test_each_queue_of_a_tenant_has_three_members(cluster: Project) -> None:
    with broker_at(cluster, 1) as broker:
        queues = broker.get("queues", "/cliente_acme")
    assert len(queues) > 5
    assert {len(queue["members"]) for queue in queues} == {NODES}
    assert len({queue["leader"] for queue in queues}) > 1, "the leaders are spread"


def test_a_second_run_changes_nothing(cluster: Project) -> None:
    before = cluster.outputs()
    assert changed(cluster.must("preview")) == []
    assert changed(cluster.must("up")) == []
    assert cluster.outputs() == before
