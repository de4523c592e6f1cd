"""`kryonix cluster grow` and `roll` on a platform with TLS, many queues and a steady load."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, Final

import docker
import pytest

from kryonix.messaging import MessagingClient, Outgoing
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.catalog import default_catalog
from tests.acceptance.conftest import changed
from tests.support.cluster import Cluster
from tests.support.deployments import entangled
from tests.support.load import load
from tests.support.project import Project, Result, free_port, tenant
from tests.support.waiting import eventually

IMAGE: Final = "rabbitmq:4.3.6-management"
OWN: Final = f"kryonix-test-rabbitmq-{secrets.token_hex(4)}"
"""A name for its copies that no other run of these tests removes."""
TENANTS: Final = ("one", "two", "three")
QUEUES, MESSAGES = 258, 10_000
GROWN_S: Final = 60
GAP_S: Final = 3
ROUTES: Final = (("crm", "leads.create"), ("crm", "leads.update"), ("financeiro", "faturas.create"))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of one node with TLS, and many queues that hold messages."""
    folder = tmp_path_factory.mktemp("nodes") / "project"
    project = Project.platform(folder, *(tenant(id, *default_catalog().modules) for id in TENANTS))
    project.configure(brokerNodes=1, tls="true")
    with project.running():
        asyncio.run(fill(project))
        yield project


@pytest.fixture(scope="module")
def grown(single: Project) -> tuple[Project, Result]:
    """The platform with three nodes, and what the command said that made them. A first one was killed midway."""
    command = ["cluster", "grow", "--stack", single.stack, "--engine", "local", "--yes"]
    with subprocess.Popen(single.command(*command), cwd=single.folder, env=single.env) as process:
        eventually("a new node has been made", lambda: made(f"kryonix-{single.stack}-rabbitmq-3"), process=process)
        process.send_signal(signal.SIGKILL)
    assert "brokerNodes: 3" in single.config_file.read_text()
    return single, operate(single, "grow", "--json")


@pytest.fixture
def cluster(grown: tuple[Project, Result]) -> Project:
    """The platform with three nodes, all in order."""
    project, result = grown
    assert result.returncode == 0, result.stderr
    return project


@pytest.fixture
def image() -> Iterator[str]:
    """Another tag of the broker's image."""
    name = f"{OWN}:{secrets.token_hex(4)}"
    with closing(docker.from_env()) as client:
        client.images.get(IMAGE).tag(name)
        yield name


@pytest.fixture(scope="module", autouse=True)
def untagged() -> Iterator[None]:
    """Remove the tags once no container has them."""
    yield
    with closing(docker.from_env()) as client:
        for found in client.images.list(OWN):
            for tag in found.tags:
                if tag.startswith(f"{OWN}:"):
                    client.images.remove(tag)


def operate(project: Project, operation: str, *arguments: str) -> Result:
    return project.kryonix("cluster", operation, "--stack", project.stack, "--engine", "local", "--yes", *arguments)


async def client_of(project: Project, id: str, **options: Any) -> MessagingClient:
    file = project.folder / "outputs.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(project.outputs()))
    return await MessagingClient.connect(outputs=file, tenant=id, **options)


async def fill(project: Project) -> None:
    """Let queues of the first tenant hold the messages."""
    async with await client_of(project, TENANTS[0]) as client:
        actions = default_catalog().modules["agendamento"].actions
        batch = await client.send_many(
            Outgoing("agendamento", list(actions)[number % len(actions)], number) for number in range(MESSAGES)
        )
    assert len(batch.sent) == MESSAGES


@contextmanager
def broker_of(project: Project) -> Iterator[Broker]:
    with Broker.of(project.outputs(), connect_s=3) as broker:
        yield broker


def held(project: Project) -> int:
    with broker_of(project) as broker:
        return sum(queue.messages for queue in broker.queues("/cliente_one"))


def containers(project: Project) -> dict[str, str]:
    """Return the ids of the nodes' containers."""
    with closing(docker.from_env()) as client:
        names = [node["container"] for node in project.outputs()["broker_nodes"]]
        return {name: str(client.containers.get(name).id) for name in names}


def test_grown_queues_have_three_members_and_their_messages(grown: tuple[Project, Result]) -> None:
    project, result = grown
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["nodes"], said["added"], said["queues_short"]) == (3, 2, {})
    assert said["members_s"] <= GROWN_S
    with broker_of(project) as broker:
        queues = broker.get("queues", disable_stats="true", columns="name,members,online,leader")
    assert len(queues) >= QUEUES
    assert {(len(queue["members"]), len(queue["online"])) for queue in queues} == {(3, 3)}
    assert eventually("the broker has counted", lambda: held(project) >= MESSAGES)
    assert held(project) == MESSAGES


def test_nothing_is_replaced_along_with_a_node(cluster: Project) -> None:
    assert entangled(json.loads(cluster.run("export").stdout)["deployment"]["resources"]) == []


def test_a_run_after_growing_changes_nothing(cluster: Project) -> None:
    assert changed(cluster.must("preview")) == []


def test_a_cluster_that_has_grown_is_healthy(cluster: Project) -> None:
    status = eventually("it is healthy", lambda: healthy(cluster))
    assert [node["container"] for node in status["nodes"]] == list(containers(cluster))
    assert max(node["leaders"] for node in status["nodes"]) < QUEUES / 2


def healthy(project: Project) -> Mapping[str, Any] | None:
    result = project.kryonix("cluster", "status", "--stack", project.stack, "--engine", "local", "--json")
    return json.loads(result.stdout) if result.returncode == 0 else None


def test_a_roll_without_a_change_replaces_nothing(cluster: Project) -> None:
    before = containers(cluster)
    result = operate(cluster, "roll")
    assert (result.returncode, containers(cluster)) == (0, before), result.stderr
    assert "Nothing to roll out" in result.stdout


def test_a_queue_short_of_members_keeps_every_node_as_it_is(cluster: Project, image: str) -> None:
    before, config = containers(cluster), cluster.config_file.read_text()
    # Without the target, the broker adds members every five minutes, which may be now.
    alone = {"x-quorum-initial-group-size": 1, "x-quorum-target-group-size": 1}
    arguments = {"x-queue-type": "quorum", **alone}
    with broker_of(cluster) as broker:
        broker.call("PUT", "queues", "/", "lonely", json={"durable": True, "arguments": arguments})
        result = operate(cluster, "roll", "--image", image)
        broker.call("DELETE", "queues", "/", "lonely")
    assert result.returncode == 2, result.stderr
    assert "lonely in /" in result.stderr
    assert (containers(cluster), cluster.config_file.read_text()) == (before, config)


def test_an_image_that_is_not_there_is_refused_before_a_node_is_touched(cluster: Project) -> None:
    before, config = containers(cluster), cluster.config_file.read_text()
    result = operate(cluster, "roll", "--image", f"{OWN}:absent")
    assert result.returncode == 2
    assert "No node has been touched" in result.stderr
    assert (containers(cluster), cluster.config_file.read_text()) == (before, config)


def test_tls_is_refused_before_a_node_is_touched(cluster: Project) -> None:
    before = containers(cluster)
    cluster.configure(tls="false")
    result = operate(cluster, "roll")
    cluster.configure(tls="true")
    assert result.returncode == 2, result.stderr
    assert 'Set kryonix:tls to "true"' in result.stderr
    assert containers(cluster) == before


def test_a_roll_to_another_image_loses_no_message(cluster: Project, image: str) -> None:
    before = containers(cluster)
    with load(partial(client_of, cluster, "two"), ROUTES) as running, closing(docker.from_env()) as client:
        bound_s = GAP_S * Cluster.of(cluster, client).slowness()
        running.mark()
        result = operate(cluster, "roll", "--image", image)
        assert result.returncode == 0, result.stderr
        running.flows()
        outcome = running.outcome()
    assert not set(containers(cluster).values()) & set(before.values())
    assert {node["image"] for node in cluster.outputs()["broker_nodes"]} == {image}
    assert outcome.intact, outcome
    assert outcome.gap_s <= bound_s, outcome
    assert changed(cluster.must("preview")) == []


def test_a_killed_roll_is_continued_by_the_same_command(cluster: Project, image: str) -> None:
    """Its nodes get other ports too, so the roll has to follow them."""
    before = containers(cluster)
    cluster.configure(managementPort=free_port(nodes=3))
    command = ["cluster", "roll", "--stack", cluster.stack, "--engine", "local", "--yes", "--image", image]
    with subprocess.Popen(cluster.command(*command), cwd=cluster.folder, env=cluster.env) as process:
        eventually("one node is new", lambda: replaced(cluster, before), process=process)
        second = operate(cluster, "grow")
        eventually("the next one is draining", lambda: drained(cluster), process=process)
        process.send_signal(signal.SIGKILL)
    assert (second.returncode, f"are in use by process {process.pid} on" in second.stderr) == (2, True), second.stderr
    result = operate(cluster, "roll", "--image", image)
    assert result.returncode == 0, result.stderr
    now = containers(cluster)
    assert not set(now.values()) & set(before.values())
    assert len({node["digest"] for node in cluster.outputs()["broker_nodes"]}) == len(now)
    assert changed(cluster.must("preview")) == []
    assert eventually("it is healthy", lambda: healthy(cluster))
    assert held(cluster) == MESSAGES


def made(container: str) -> bool:
    with closing(docker.from_env()) as client:
        return any(found.name == container for found in client.containers.list(all=True, ignore_removed=True))


def replaced(project: Project, before: Mapping[str, str]) -> bool:
    with closing(docker.from_env()) as client:
        found = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
    return not set(before.values()) <= found


def drained(project: Project) -> bool:
    # A node answers 500 when the one it asks is being replaced.
    with suppress(BrokerUnavailable), broker_of(project) as broker:
        return any(node["running"] and node["being_drained"] for node in broker.get("nodes"))
    return False
