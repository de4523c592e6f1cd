"""Container limits: capabilities, file systems, networks and the broker's memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.support.containers import process_status
from tests.support.live_broker import LiveBroker
from tests.support.project import Project

MIB = 1024 * 1024
MEMORY_MB = 1024
NEEDED = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID"}


@pytest.fixture
def containers(platform: Project) -> Iterator[dict[str, dict[str, Any]]]:
    client = docker.from_env()
    names = ("rabbitmq", "postgres")
    yield {name: client.containers.get(f"kryonix-{platform.stack}-{name}").attrs for name in names}
    client.close()


@pytest.mark.parametrize("name", ["rabbitmq", "postgres"])
def test_a_container_has_few_capabilities_and_gains_none(containers: dict[str, dict[str, Any]], name: str) -> None:
    host = containers[name]["HostConfig"]
    assert (host["CapDrop"], set(host["CapAdd"]), host["Privileged"]) == (["ALL"], NEEDED, False)
    assert "no-new-privileges" in host["SecurityOpt"]


@pytest.mark.parametrize("name", ["rabbitmq", "postgres"])
def test_no_service_runs_with_a_capability_or_as_root(platform: Project, name: str) -> None:
    client = docker.from_env()
    container = client.containers.get(f"kryonix-{platform.stack}-{name}")
    fields = process_status(container)
    client.close()
    assert {int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert fields["Uid"].split()[0] != "0"
    assert fields["NoNewPrivs"].strip() == "1"


def test_the_databases_root_is_read_only(containers: dict[str, dict[str, Any]]) -> None:
    assert containers["postgres"]["HostConfig"]["ReadonlyRootfs"] is True


def test_each_container_has_a_network_of_its_own(containers: dict[str, dict[str, Any]]) -> None:
    networks = {name: set(found["NetworkSettings"]["Networks"]) for name, found in containers.items()}
    assert all(len(of_one) == 1 for of_one in networks.values()), networks
    assert networks["rabbitmq"].isdisjoint(networks["postgres"])
    assert "bridge" not in set().union(*networks.values())


def test_the_broker_blocks_publishers_at_its_containers_limits(
    broker: LiveBroker, containers: dict[str, dict[str, Any]]
) -> None:
    assert containers["rabbitmq"]["HostConfig"]["Memory"] == MEMORY_MB * MIB
    (node,) = broker.get("nodes")
    assert node["mem_limit"] == int(0.4 * MEMORY_MB * MIB)
    assert node["disk_free_limit"] == (MEMORY_MB + 2048) * MIB
