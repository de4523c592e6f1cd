"""A tenant's stack on a cluster and a registry that this project did not make."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
            managementUrls=[f"http://127.0.0.1:{each}" for each in found.management_ports],
            amqpAddresses=found.addresses,
            advertisedHost=address,
            amqpPort=int(port),
            adminUsername=found.login[0],
        )
        own.configure(adminPassword=own.secret(found.login[1]), registryDsn=own.secret(server.dsn(WRITER)))
        own.must("up")
        yield Foreign(found, own)


@pytest.fixture
def credentials(foreign: Foreign, tmp_path: Path) -> Path:
    """The file of `kryonix tenant credentials`."""
    file = tmp_path / "credentials.json"
    where = ("--stack", foreign.own.stack, "--engine", "local")
    written = foreign.own.kryonix("tenant", "credentials", "own", *where, "--output", str(file))
    assert written.returncode == 0, written.stderr
    return file


@pytest.fixture
def described(foreign: Foreign, server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The cluster in a file of platforms, for commands on tenants; its name there."""
    nodes = foreign.cluster
    urls = [f"http://127.0.0.1:{port}" for port in nodes.management_ports]
    outputs = {
        "management_url": urls[0],
        "management_urls": urls,
        "admin_username": nodes.login[0],
        "admin_password": nodes.login[1],
        "amqp_host": "127.0.0.1",
        "amqp_port": nodes.amqp_ports[0],
        "amqp_addresses": nodes.addresses,
        "registry_dsn": server.dsn(WRITER),
    }
    file = tmp_path / "platforms.json"
    file.write_text(json.dumps({"foreign": outputs}))
    monkeypatch.setitem(foreign.own.env, "KRYONIX_PLATFORM_FILE", str(file))
    return "foreign"


def test_every_queue_of_the_tenant_has_three_members(foreign: Foreign) -> None:
    with foreign.cluster.broker_at(0) as broker:
        queues = broker.get("queues", VHOST)
    assert {len(queue["members"]) for queue in queues} == {3}


def test_the_next_run_changes_nothing(foreign: Foreign) -> None:
    assert changed(foreign.own.must("preview")) == []


def test_credentials_name_every_node(credentials: Path, foreign: Foreign) -> None:
    known = json.loads(credentials.read_text())
    assert known["amqp_addresses"] == foreign.cluster.addresses
    assert len(known["management_urls"]) == 3
    assert foreign.cluster.login[1] not in credentials.read_text()


def test_messages_and_changes_go_on_without_the_first_node(foreign: Foreign, credentials: Path, described: str) -> None:
    """Its address is `managementUrl`. Applications have their credentials alone, and one starts meanwhile."""

    async def work() -> None:
        async with await MessagingClient.connect(outputs=credentials, timeout=60) as client:
            await client.send("crm", "leads.create", {"name": "Ana"})
            foreign.cluster.kill(0)
            await client.send("crm", "leads.create", {"name": "Bia"}, timeout=60)
        async with await MessagingClient.connect(outputs=credentials, timeout=60) as client:
            await client.send("crm", "leads.create", {"name": "Eva"}, timeout=60)
            assert await client.queue_stats(timeout=60)

    try:
        asyncio.run(work())
        foreign.own.configure(tenant={**OWN, "modules": ["crm", "financeiro"]})
        foreign.own.must("up")
        arguments = ("another", "--modules", "crm", "--plan", "basic", "--stack", described, "--engine", "local")
        created = foreign.own.kryonix("tenant", "create", *arguments)
        assert created.returncode == 0, created.stderr
        with foreign.cluster.broker_at(1) as broker:
            assert any(queue.name.startswith("cliente_own.financeiro.") for queue in broker.queues(VHOST))
    finally:
        foreign.cluster.start(0)
    eventually("the node is back", lambda: foreign.cluster.has(3))
    assert changed(foreign.own.must("up")) == ["update broker"]
    assert changed(foreign.own.must("preview")) == []
