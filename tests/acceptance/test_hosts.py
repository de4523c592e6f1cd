"""A platform whose nodes run on three Docker hosts, which find each other by their addresses. One platform for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from kryonix.certificates.served import served
from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.state import read_state
from kryonix.messaging import MessagingClient
from kryonix.rabbitmq.broker import Broker
from tests.acceptance.conftest import changed
from tests.support.docker_hosts import DockerHost, DockerHosts, docker_hosts
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

IMAGES: Final = ("rabbitmq:4.3.6-management", "postgres:17", "kryonix:1.0.0")
EPMD, DISTRIBUTION, DOCKER = 4369, 25672, 2376


@dataclass(frozen=True)
class Spread:
    """The platform and its hosts."""

    hosts: DockerHosts
    project: Project
    outputs: dict[str, Any]

    def broker(self, number: int) -> Broker:
        """Return the management API of a node, from 0."""
        login = (self.outputs["admin_username"], self.outputs["admin_password"])
        return Broker(self.outputs["management_urls"][number], *login, ca_certificate=self.outputs["ca_certificate"])

    def running(self, asked: int) -> list[str]:
        with self.broker(asked) as broker:
            return sorted(name for name, runs in broker.nodes().items() if runs)

    @property
    def nodes(self) -> list[str]:
        return sorted(node["name"] for node in self.outputs["broker_nodes"])

    def command(self, *words: str) -> dict[str, Any]:
        """Run a command on the stack that has to succeed, and return its JSON."""
        result = self.project.kryonix(*words, "--stack", self.project.stack, "--engine", "local", "--json")
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def send(self) -> None:
        """Publish a message with a confirm, as a tenant's application that was given the outputs."""
        uri, trust = self.outputs["tenants"]["acme"]["amqp_uri"], self.project.folder / "trust.pem"
        trust.write_text(self.outputs["ca_certificate"])

        async def publish() -> None:
            addresses = self.outputs["amqp_addresses"]
            async with await MessagingClient.connect(
                amqp_uri=uri, addresses=addresses, ca_file=trust, timeout=30
            ) as client:
                await client.send("crm", "leads.create", {"name": "Ana"})

        asyncio.run(publish())


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    folder = tmp_path_factory.mktemp("hosts") / "project"
    with docker_hosts(*IMAGES) as hosts:
        machines = [{"address": host.address, "docker": host.docker} for host in hosts]
        project = Project.platform(folder, tenant("acme", "crm", plan="basic"), brokerNodes=3, hosts=machines)
        project.env["DOCKER_CERT_PATH"] = str(hosts.certificates)
        with project.running():
            yield Spread(hosts, project, project.must("outputs", "--show-secrets"))


@pytest.fixture
def reached(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> list[RecordedNode]:
    """The nodes, whose Docker hosts take this process for the operator's."""
    monkeypatch.setenv("DOCKER_CERT_PATH", str(spread.hosts.certificates))
    return RecordedNode.of(spread.outputs)


def test_the_nodes_of_all_hosts_are_one_cluster(spread: Spread) -> None:
    assert [spread.running(asked) for asked in range(3)] == [spread.nodes] * 3
    with spread.broker(0) as broker:
        assert {len(queue["members"]) for queue in broker.get("queues", "/cliente_acme")} == {3}
    spread.send()


def test_the_next_run_changes_nothing(spread: Spread) -> None:
    assert changed(spread.project.must("preview")) == []


def test_each_host_runs_its_node_and_the_first_all_else(spread: Spread) -> None:
    name, found = f"kryonix-{spread.project.stack}", []
    for host in spread.hosts:
        with host.client() as client:
            found.append({container.name for container in client.containers.list()})
    first = {f"{name}-rabbitmq", f"{name}-keeper", f"{name}-postgres"}
    assert found == [first, *({f"{name}-rabbitmq-{n}", f"{name}-keeper-{n}"} for n in (2, 3))]


def test_a_host_listens_at_its_address_only_with_tls(spread: Spread) -> None:
    for number, host in enumerate(spread.hosts):
        address, _, amqp = spread.outputs["amqp_addresses"][number].partition(":")
        assert address == host.address
        management = spread.outputs["management_urls"][number].rpartition(":")[2]
        metrics = spread.outputs["metrics_url"].rpartition(":")[2].partition("/")[0]
        known = {(address, int(port)) for port in (amqp, management, metrics, EPMD, DISTRIBUTION, DOCKER)}
        if number == 0:
            registry = spread.outputs["registry_dsn"].partition("@")[2].partition("/")[0].rpartition(":")[2]
            known.add((address, int(registry)))
        assert listening(host) == known
        container = spread.outputs["broker_nodes"][number]["container"]
        assert all(container in served(address, int(port)).names for port in (amqp, management, metrics, DISTRIBUTION))


def test_the_loss_of_a_host_is_borne_and_it_comes_back(spread: Spread) -> None:
    lost, others = spread.hosts[2], [name for name in spread.nodes if not name.endswith("-3")]
    lost.lose()
    try:
        spread.send()
        eventually("the others notice", lambda: spread.running(0) == others)
        spread.project.tenants(tenant("acme", "crm", plan="basic"), tenant("later", "crm", plan="basic"))
        spread.project.must("up")
    finally:
        lost.bring_back()
    eventually("the node is back", lambda: spread.running(0) == spread.nodes)
    assert changed(spread.project.must("preview")) == []


def test_commands_run_in_the_containers_of_every_host(spread: Spread, reached: list[RecordedNode]) -> None:
    places = spread.command("certificates", "renew")["places"]
    assert {place["role"] for place in places} == {"rabbitmq", "rabbitmq-2", "rabbitmq-3", "postgres"}
    reached[1].drain()
    with spread.broker(0) as broker:
        assert [node.drained for node in read_state(broker).nodes] == [False, True, False]
    reached[1].revive()


def test_a_host_with_an_empty_disk_gets_its_node_again(spread: Spread, reached: list[RecordedNode]) -> None:
    """As docs/runbooks.md has it."""
    lost = reached[2]
    with spread.hosts[2].client() as client:
        client.containers.get(lost.container).remove(force=True)
        client.volumes.get(f"{lost.container}-data").remove()
    spread.project.must("refresh")
    reached[0].run(["rabbitmqctl", "forget_cluster_node", lost.name])
    spread.project.must("up")
    spread.command("cluster", "grow", "--yes")
    assert spread.running(0) == spread.nodes
    with spread.broker(0) as broker:
        assert all(lost.name in queue.online for queue in read_state(broker).queues)
    assert changed(spread.project.must("preview")) == []


def listening(host: DockerHost) -> set[tuple[str, int]]:
    """Return address and port of each TCP listener in a host's namespace."""
    pid = host.pid
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {(_dotted(local), int(local[9:], 16)) for _, local, _, state, *_ in lines if state == "0A"}


def _dotted(local: str) -> str:
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(local[:8])))
