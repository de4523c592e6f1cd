"""A cluster of three brokers in containers, for what a single node can't show, and the faults of its nodes."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Self

import docker

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from tests.support.containers import output_of
from tests.support.project import Project, free_port
from tests.support.waiting import eventually

__all__ = ["Cluster", "cluster"]

_IMAGE: Final = "rabbitmq:4.3.6-management"
_FRUGAL: Final = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
_AS_THE_PRODUCT: Final = "-aten poll_interval 2000 -kernel net_ticktime 6"
_HOSTS: Final = ("one", "two", "three")
_PATIENCE_S: Final = 10
"""For an answer: a node asks the others, and has to give up one that is silent first."""
_START_S: Final = 0.5
"""What a command of RabbitMQ takes to start on the machine of the bounds, with a load beside it."""
_LED: Final = """
    length([Name || {Name, leader, _} <- ets:tab2list(ra_state), string:prefix(atom_to_list(Name), "%s_") /= nomatch]).
"""
_SPREAD: Final = """
    Nodes = lists:sort([node() | nodes()]),
    ByName = fun(A, B) -> amqqueue:get_name(A) =< amqqueue:get_name(B) end,
    [rabbit_quorum_queue:transfer_leadership(Queue, lists:nth(1 + I rem length(Nodes), Nodes))
     || {I, Queue} <- lists:enumerate(lists:sort(ByName, rabbit_amqqueue:list(<<"%s">>)))].
"""
_AS_ROOT: Final = () if os.geteuid() == 0 else ("sudo", "-n")


@dataclass(frozen=True)
class Cluster:
    """The containers of the nodes, their published ports, and the management API of the first.

    Nodes are counted from 0. A fault stays until it is taken back; `start` takes back every one but a pause.
    """

    nodes: Sequence[Any]
    broker: Broker
    amqp_ports: Sequence[int]
    management_ports: Sequence[int]
    login: tuple[str, str] = field(repr=False)
    """The administrator's name and password."""
    ca: str = field(default="", repr=False)
    """The certificate of the CA, empty without TLS."""

    @classmethod
    def of(cls, platform: Project, client: docker.DockerClient) -> Self:
        """Return the nodes of a platform that runs."""
        outputs = platform.outputs()
        amqp, management = (
            [int(place.rpartition(":")[2]) for place in outputs[name]] for name in ("amqp_addresses", "management_urls")
        )
        return cls(
            [client.containers.get(node["container"]) for node in outputs["broker_nodes"]],
            Broker.of(outputs),
            amqp,
            management,
            (outputs["admin_username"], outputs["admin_password"]),
            outputs["ca_certificate"],
        )

    @property
    def addresses(self) -> list[str]:
        """Return each node's `host:port` for AMQP."""
        return [f"127.0.0.1:{port}" for port in self.amqp_ports]

    def has(self, running: int, *, asked: int = 0) -> bool:
        """Return True if so many of the nodes run, as one of them sees it. One that doesn't answer sees nothing."""
        with suppress(BrokerUnavailable):
            return sum(self.broker_at(asked).nodes().values()) == running
        return False

    def is_whole(self) -> bool:
        """Return True if every node runs, and no queue is lost with any one of them."""
        with suppress(BrokerUnavailable):
            for i in range(len(self.nodes)):
                self.broker_at(i).call("GET", "health", "checks", "node-is-quorum-critical")
            return self.has(len(self.nodes))
        return False

    def leaders(self, vhost: str) -> Counter[int]:
        """Return how many queues of a vhost each node leads, as Raft has it: the queues' records lag behind a cut."""
        counts = [output_of(node, "rabbitmqctl", "eval", _LED % vhost, user="rabbitmq") for node in self.nodes]
        return Counter({i: int(count) for i, count in enumerate(counts)})

    def spread(self, vhost: str) -> None:
        """Wait until the cluster is whole, and let the nodes lead the queues of a vhost in turn."""
        eventually("the cluster is whole", self.is_whole)
        output_of(self.nodes[0], "rabbitmqctl", "eval", _SPREAD % vhost, user="rabbitmq")
        assert len(+self.leaders(vhost)) == len(self.nodes), "each node leads queues"

    def broker_at(self, i: int) -> Broker:
        """Return the management API of a node."""
        url = f"{'https' if self.ca else 'http'}://127.0.0.1:{self.management_ports[i]}"
        return Broker(url, *self.login, read_s=_PATIENCE_S, ca_certificate=self.ca)

    def kill(self, i: int) -> None:
        """End a node without a goodbye."""
        self.nodes[i].kill("SIGKILL")

    def start(self, i: int) -> None:
        """Start a node's container. It is ready once `await_startup` returns, or clients get in."""
        self.nodes[i].start()

    def pause(self, i: int) -> None:
        """Freeze a node: its connections stay open, and nothing answers."""
        self.nodes[i].pause()

    def resume(self, i: int) -> None:
        self.nodes[i].unpause()

    def cut(self, i: int) -> None:
        """Drop all packets between a node and the rest of the world, in silence."""
        for chain, interface in (("INPUT", "-i"), ("OUTPUT", "-o")):
            self._filter(i, "-A", chain, "!", interface, "lo", "-j", "DROP")

    def part(self, i: int) -> None:
        """Drop all packets between a node and the other nodes, in silence. Clients still reach it."""
        for other in self.nodes:
            if other is not self.nodes[i]:
                self._filter(i, "-A", "INPUT", "-s", _address(other), "-j", "DROP")
                self._filter(i, "-A", "OUTPUT", "-d", _address(other), "-j", "DROP")

    def mend(self, i: int) -> None:
        """Let packets through again."""
        self._filter(i, "-F")

    def slowness(self) -> float:
        """Return how many times slower this machine is now than the one that the tests' bounds are for; at least 1."""

        def took() -> float:
            began = time.monotonic()
            output_of(self.nodes[0], "rabbitmqctl", "eval", "ok.", user="rabbitmq")
            return time.monotonic() - began

        return max(1.0, median(took() for _ in range(5)) / _START_S)

    def _filter(self, i: int, *rule: str) -> None:
        """Change the packet filter in a node's network namespace; it goes with the namespace when the node ends."""
        node = self.nodes[i]
        node.reload()
        namespace = ["nsenter", "--net", "--target", str(node.attrs["State"]["Pid"])]
        subprocess.run([*_AS_ROOT, *namespace, "iptables", "-w", *rule], check=True)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run three nodes in one cluster for the block."""
    name, password = f"kryonix-cluster-{secrets.token_hex(4)}", secrets.token_hex(8)
    amqp, management = [free_port() for _ in _HOSTS], [free_port() for _ in _HOSTS]
    with closing(docker.from_env()) as client:
        network = client.networks.create(name)
        nodes: list[Any] = []
        try:
            for host, *ports in zip(_HOSTS, amqp, management, strict=True):
                node = client.containers.create(
                    _IMAGE,
                    name=f"{name}-{host}",
                    hostname=host,
                    network=name,
                    networking_config={name: client.api.create_endpoint_config(aliases=[host])},
                    ports={f"{n}/tcp": ("127.0.0.1", port) for n, port in zip((5672, 15672), ports, strict=True)},
                    environment={
                        "RABBITMQ_DEFAULT_USER": "admin",
                        "RABBITMQ_DEFAULT_PASS": password,
                        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_FRUGAL} {_AS_THE_PRODUCT}",
                    },
                )
                nodes.append(node)
                node.put_archive("/var/lib/rabbitmq", _cookie(name))
                node.start()
            eventually("the nodes run", lambda: all(_ctl(node, "await_startup") == 0 for node in nodes))
            for node in nodes[1:]:
                for command in (["stop_app"], ["join_cluster", "rabbit@one"], ["start_app"]):
                    assert _ctl(node, *command) == 0, f"{node.name}: {command}"
            first = Broker(f"http://127.0.0.1:{management[0]}", "admin", password)
            found = Cluster(nodes, first, amqp, management, ("admin", password))
            eventually("all nodes are members", lambda: found.has(3))
            yield found
        finally:
            for node in nodes:
                node.remove(force=True, v=True)
            network.remove()


def _ctl(node: Any, *command: str) -> int:
    return int(node.exec_run(["rabbitmqctl", *command]).exit_code)


def _address(node: Any) -> str:
    node.reload()
    (network,) = node.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def _cookie(secret: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(".erlang.cookie")
        entry.size, entry.mode, entry.uid, entry.gid = len(secret), 0o400, 101, 101  # the image's rabbitmq
        tar.addfile(entry, io.BytesIO(secret.encode()))
    return buffer.getvalue()
