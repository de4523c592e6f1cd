"""The balancer before three nodes: foreign clients spread, and leave a node that is drained, frozen or killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiormq
import docker
import pika
import pulumi
import pulumi_docker
import pytest
from aiormq.abc import AbstractConnection

from components.balancer import FOLDER, Balancer, BalancerArgs, configuration
from components.balancer_settings import BalancerSettings
from components.platform_inside import NodeInside
from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.container_spec import archive
from kryonix.engines.local.values import from_struct, to_struct
from tests.support.cluster import Cluster, cluster
from tests.support.mocked import registered
from tests.support.project import free_port
from tests.support.tls import CA
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

CONTAINER = "docker:index/container:Container"
NODES = ("one", "two", "three")
CLIENTS = 90
IMAGE = "haproxy:3.2"
HEARTBEAT_S = 60


@dataclass(frozen=True)
class Balanced:
    """A cluster, and the balancer's port."""

    cluster: Cluster
    port: int

    @property
    def uri(self) -> str:
        return f"amqp://{':'.join(self.cluster.login)}@127.0.0.1:{self.port}/%2F?heartbeat={HEARTBEAT_S}"

    def spread(self) -> Counter[str]:
        """Return the number of connections of each node."""
        listed = self.cluster.broker.get("connections")
        return Counter(each["node"].removeprefix("rabbit@") for each in listed if "node" in each)

    @asynccontextmanager
    async def clients(self, count: int) -> AsyncIterator[Sequence[AbstractConnection]]:
        async with AsyncExitStack() as stack:
            made = []
            for _ in range(count):
                made.append(await aiormq.connect(self.uri))
                stack.push_async_callback(made[-1].close)
            yield made

    async def of_new_clients(self, count: int) -> Counter[str]:
        """Return where as many new connections go."""
        await eventually_async(lambda: not self.spread())
        async with self.clients(count):
            return Counter(await eventually_async(lambda: found if (found := self.spread()).total() == count else None))

    async def is_whole(self) -> bool:
        """Return True if each node gets new connections."""
        return len(await self.of_new_clients(len(NODES))) == len(NODES)


@pytest.fixture(scope="module")
def balanced() -> Iterator[Balanced]:
    with cluster() as found:
        port = free_port()
        inputs = container(found.nodes[0], port)
        containers = provider("docker", {}).handler(CONTAINER)
        checked = containers.check(None, inputs)
        id, outputs = containers.create(checked)
        try:
            yield Balanced(found, port)
        finally:
            print(docker.from_env().containers.get(id).logs().decode())
            containers.delete(id, checked, outputs)


def container(node: Any, port: int) -> dict[str, Any]:
    """Return the inputs of the component's container, on the network of a node."""
    (network,) = node.attrs["NetworkSettings"]["Networks"]

    def program() -> None:
        nodes = [NodeInside(name=host, host=host, amqp_port=5672, management_port=15672) for host in NODES]
        args = BalancerArgs(
            settings=BalancerSettings(image=IMAGE, port=port),
            network=pulumi_docker.Network("broker", name=network),
            nodes=nodes,
            address="127.0.0.1",
            advertised_host="127.0.0.1",
        )
        pulumi.export("address", Balancer(network, args).address)

    inputs = registered(program).of(CONTAINER)[f"{network}-container"]
    return from_struct(to_struct({**inputs, "name": f"{network}-balancer"}))


@pytest.mark.parametrize(("tls", "verified"), [(False, True), (True, True), (True, False)])
def test_haproxy_takes_the_configuration_without_a_warning(tls: bool, verified: bool) -> None:
    nodes = [NodeInside(name=host, host="127.0.0.1", amqp_port=5671, management_port=15671) for host in NODES]
    content = {"haproxy.cfg": configuration(nodes, tls=tls, verified=verified), "ca.pem": CA.pem}
    command = ["haproxy", "-c", "-dW", "-f", f"{FOLDER}/haproxy.cfg"]
    checking = docker.from_env().containers.create(IMAGE, command)
    try:
        checking.put_archive(
            "/",
            archive(
                {"file": f"{FOLDER}/{name}", "content": text, "executable": False} for name, text in content.items()
            ),
        )
        checking.start()
        assert checking.wait()["StatusCode"] == 0, checking.logs().decode()
    finally:
        checking.remove(force=True)


def closed(connections: Sequence[AbstractConnection]) -> int:
    """Return how many connections have ended by themselves."""
    return sum(each.is_closed for each in connections)


async def test_clients_are_spread_over_the_nodes(balanced: Balanced) -> None:
    await eventually_async(balanced.is_whole)
    found = await balanced.of_new_clients(CLIENTS)
    assert all(20 <= found[node] <= 40 for node in NODES), found


async def test_a_drained_node_gets_no_new_connection(balanced: Balanced) -> None:
    await eventually_async(balanced.is_whole)
    try:
        async with balanced.clients(3) as connections:
            balanced.cluster.nodes[1].exec_run(["rabbitmq-upgrade", "drain"])
            await eventually_async(lambda: closed(connections) == 1)
        assert set(await balanced.of_new_clients(6)) == {"one", "three"}
    finally:
        balanced.cluster.nodes[1].exec_run(["rabbitmq-upgrade", "revive"])


async def test_connections_of_a_frozen_node_end_before_heartbeats_end_them(balanced: Balanced) -> None:
    await eventually_async(balanced.is_whole)
    async with balanced.clients(9) as connections:
        balanced.cluster.pause(2)
        try:
            await eventually_async(lambda: closed(connections) == 3, within=HEARTBEAT_S)
        finally:
            balanced.cluster.resume(2)


async def test_a_foreign_client_loses_no_message_when_its_node_is_killed(balanced: Balanced) -> None:
    await eventually_async(balanced.is_whole)
    queue, sent, lost = "orders", 60, 0
    publishers = [Publisher(balanced.uri, queue) for _ in range(6)]
    balanced.cluster.kill(1)
    try:
        for number in range(sent):
            lost += publishers[number % 6].send(str(number).encode())
        assert lost >= 2, "those of the killed node"
        assert publishers[0].taken(sent) == {str(number).encode() for number in range(sent)}
    finally:
        for publisher in publishers:
            publisher.close()
        balanced.cluster.start(1)


class Publisher:
    """An application with pika's own connection, which it opens again when it is lost."""

    def __init__(self, uri: str, queue: str) -> None:
        self._parameters, self._queue = pika.URLParameters(uri), queue
        self._open()

    def _open(self) -> None:
        self._connection = pika.BlockingConnection(self._parameters)
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})

    def send(self, body: bytes) -> int:
        """Publish until the message is confirmed. Return how often that took a new connection."""
        for lost in range(10):
            try:
                self._channel.basic_publish("", self._queue, body, mandatory=True)
            except pika.exceptions.AMQPError:
                eventually("a node takes it", self._reopened)
            else:
                return lost
        raise AssertionError(f"{body!r} is not confirmed")

    def _reopened(self) -> bool:
        with suppress(pika.exceptions.AMQPError):
            self._open()
            return True
        return False

    def taken(self, count: int) -> set[bytes]:
        """Take messages until there are as many different ones. Some may have been sent twice."""
        bodies: set[bytes] = set()
        for _, _, body in self._channel.consume(self._queue, auto_ack=True, inactivity_timeout=60):
            assert body is not None, f"only {len(bodies)} of {count}"
            bodies.add(body)
            if len(bodies) == count:
                break
        return bodies

    def close(self) -> None:
        with suppress(pika.exceptions.AMQPError):
            self._connection.close()
