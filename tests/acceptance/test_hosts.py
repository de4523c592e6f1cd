"""A platform whose nodes run on three Docker hosts, which find each other by their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from kryonix.messaging import MessagingClient
from kryonix.rabbitmq.broker import Broker
from tests.support.docker_hosts import docker_hosts
from tests.support.project import Project, tenant

IMAGES: Final = ("rabbitmq:4.3.6-management", "postgres:17", "kryonix:1.0.0")


@dataclass(frozen=True)
class Spread:
    """The platform."""

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

    def send(self) -> None:
        """Publish a message with a confirm, as a tenant's application that was given the outputs."""
        uri, trust = self.outputs["tenants"]["acme"]["amqp_uri"], self.project.folder / "trust.pem"
        trust.write_text(self.outputs["ca_certificate"])

        async def publish() -> None:
            addresses = self.outputs["amqp_addresses"]
            async with await MessagingClient.connect(amqp_uri=uri, addresses=addresses, ca_file=trust) as client:
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
            yield Spread(project, project.must("outputs", "--show-secrets"))


def test_the_nodes_of_all_hosts_are_one_cluster(spread: Spread) -> None:
    assert [spread.running(asked) for asked in range(3)] == [spread.nodes] * 3
    with spread.broker(0) as broker:
        assert {len(queue["members"]) for queue in broker.get("queues", "/cliente_acme")} == {3}
    spread.send()
