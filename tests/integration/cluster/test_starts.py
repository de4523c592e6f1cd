"""Nodes with the program's configuration become one cluster, in whatever order and however far apart they start.

`KRYONIX_TEST_STARTS` is the number of starts, 3 by default.
"""

from __future__ import annotations

import io
import os
import random
import secrets
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

import docker
import pulumi
import pytest

from components.broker import container_inputs
from components.exporter import MetricsEndpoint
from components.node_settings import Node
from components.settings import PlatformSettings
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.naming import ADMIN_USER
from tests.support.platform_settings import platform_settings
from tests.support.project import free_port
from tests.support.waiting import eventually

STARTS = int(os.environ.get("KRYONIX_TEST_STARTS", "3"))
APART_S = (0.0, 0.5, 4.0, 12.0)
"""Longest time between two starts: an engine starts all at once, on several hosts with some delay."""
PASSWORD = "of a test"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> PlatformSettings:
    stack = f"starts-{secrets.token_hex(3)}"
    monkeypatch.setattr(pulumi, "get_stack", lambda: stack)
    ports = {key: free_port() for key in ("amqp_port", "management_port", "registry_port")}
    return platform_settings(broker_nodes=3, broker_memory_mb=512, metrics=MetricsEndpoint(port=free_port()), **ports)


@contextmanager
def created(settings: PlatformSettings) -> Iterator[dict[int, Any]]:
    """Return the nodes' containers by number, not started yet, with empty volumes."""
    with closing(docker.from_env()) as client:
        network = client.networks.create(f"{settings.nodes.first.container}-network")
        made: dict[int, Any] = {}
        try:
            for node in settings.nodes:
                made[node.number] = container(client, network.name, node, settings)
            yield made
        finally:
            for each in made.values():
                each.remove(force=True, v=True)
            network.remove()


def container(client: Any, network: str, node: Node, settings: PlatformSettings) -> Any:
    inputs = container_inputs(node, settings, network, "data", password=PASSWORD, cookie="c" * 24)
    (joined,) = map(vars, inputs["networks_advanced"])
    ports = [vars(port) for port in inputs["ports"]]
    made = client.containers.create(
        inputs["image"],
        name=inputs["name"],
        hostname=inputs["hostname"],
        mem_limit=f"{inputs['memory']}m",
        network=network,
        networking_config={network: client.api.create_endpoint_config(aliases=joined["aliases"])},
        ports={f"{port['internal']}/tcp": (port["ip"], port["external"]) for port in ports},
        restart_policy={"Name": inputs["restart"]},
        environment={"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"},
    )
    made.put_archive("/", archive(vars(upload) for upload in inputs["uploads"]))
    return made


def archive(uploads: Iterator[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for upload in uploads:
            content = upload["content"].encode()
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size, entry.mode = len(content), int(upload.get("permissions", "0644"), 8)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def seen(node: Node) -> set[str]:
    """Return the running members of a node's cluster, as it sees them; none while it does not answer."""
    with suppress(BrokerUnavailable), Broker(node.local_management_url, ADMIN_USER, PASSWORD, read_s=10) as broker:
        return {name for name, runs in broker.nodes().items() if runs}
    return set()


@pytest.mark.parametrize("number", range(STARTS))
def test_nodes_become_one_cluster_in_whatever_order_they_start(settings: PlatformSettings, number: int) -> None:
    chance = random.Random(number)
    order, apart = chance.sample(list(settings.nodes), 3), APART_S[number % len(APART_S)]
    with created(settings) as containers:
        starts = [threading.Timer(chance.uniform(0, apart), containers[node.number].start) for node in order]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        expected = {node.name for node in settings.nodes}
        eventually("one cluster of three", lambda: all(seen(node) == expected for node in settings.nodes))
