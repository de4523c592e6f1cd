"""NodeSettings: the nodes of a platform's broker, their names, addresses and published ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from components.errors import InvalidStack
from components.host_settings import Host
from kryonix.cluster.growth import PORT_STEP
from kryonix.topology.addresses import host_port

ROLE: Final = "rabbitmq"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""A host name of one part: Erlang takes only what is before the first period, which would be equal for all nodes."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its container, which is its host name too, and the ports that its Docker host publishes.

    `local` is the host of those ports for this machine, `address` for others. `docker` is the Docker host, "" for
    this machine's.
    """

    number: int
    container: str
    local: str
    address: str
    amqp_port: int
    management_port: int
    metrics_port: int
    docker: str = ""
    tls: bool = False
    peers: Mapping[str, str] = field(default_factory=dict)
    """The addresses of the nodes on other machines, by their containers' names; empty where all are on one."""

    @property
    def role(self) -> str:
        """Return its part on the networks, which names its volume with a certificate."""
        return "rabbitmq" if self.number == 1 else f"rabbitmq-{self.number}"

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def name(self) -> str:
        """Return the Erlang node's name."""
        return f"rabbit@{self.container}"

    @property
    def amqp(self) -> str:
        return host_port(self.address, self.amqp_port)

    @property
    def management_url(self) -> str:
        return f"{self._scheme}://{host_port(self.address, self.management_port)}"

    @property
    def local_management_url(self) -> str:
        return f"{self._scheme}://{host_port(self.local, self.management_port)}"


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """The nodes in order. The first one has the names and the ports of a broker of one node."""

    nodes: Sequence[Node]

    @classmethod
    def of(
        cls,
        count: int,
        container: str,
        *,
        local: str,
        address: str,
        amqp: int,
        management: int,
        metrics: int,
        tls: bool = False,
        hosts: Sequence[Host] = (),
    ) -> NodeSettings:
        """Return the nodes of a broker whose first container and first ports are these.

        On machines of their own they have the same ports, each at its machine's address.
        """
        names = [container if number == 1 else f"{container}-{number}" for number in range(1, count + 1)]
        addresses = {name: host.address for name, host in zip(names, hosts, strict=False)}
        step = 0 if hosts else PORT_STEP
        return cls(
            nodes=[
                Node(
                    number=number,
                    container=name,
                    local=addresses.get(name, local),
                    address=addresses.get(name, address),
                    amqp_port=amqp + step * (number - 1),
                    management_port=management + step * (number - 1),
                    metrics_port=metrics + step * (number - 1),
                    docker=hosts[number - 1].docker if name in addresses else "",
                    tls=tls,
                    peers={other: place for other, place in addresses.items() if other != name},
                )
                for number, name in enumerate(names, 1)
            ]
        )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def clustered(self) -> bool:
        return len(self.nodes) > 1

    @property
    def elsewhere(self) -> list[Node]:
        """Return the nodes on other machines than the first."""
        return [node for node in self.nodes[1:] if node.peers]

    @property
    def inside(self) -> list[str]:
        """Return each node's own name on the broker's network, where `rabbitmq` stands for any of them."""
        return [f"{ROLE}-{node.number}" for node in self.nodes] if self.clustered else [ROLE]

    @property
    def ports(self) -> Mapping[str, int]:
        """Return the ports of all nodes but the first, by config key and node: those that nobody has set."""
        return {
            f"{key} of node {node.number}": port
            for node in self.nodes[1:]
            if not node.peers  # elsewhere these are the ports of the first, on another machine
            for key, port in (
                ("amqpPort", node.amqp_port),
                ("managementPort", node.management_port),
                ("metricsPort", node.metrics_port),
            )
        }

    def refuse_exchanges(self, outputs: Mapping[str, Any]) -> None:
        """Raise InvalidStack if a node of a cluster can't be replaced while the others are as they were.

        It would get another name, and so leave the cluster and its data, or a port that another node publishes.
        `outputs` are the previous run's.
        """
        before: Sequence[Mapping[str, Any]] = outputs.get("broker_nodes") or ()
        if len(before) < 2:
            return
        for node, entry in zip(self.nodes, before, strict=False):
            if node.name != entry["name"]:
                raise InvalidStack(
                    f"node {node.number} of the broker is {entry['name']}, and would become {node.name}: it would "
                    "leave the cluster and its data behind. A stack with a cluster can't be renamed. Nothing has been "
                    "changed. Give the stack its old name again (`pulumi stack rename`)"
                )
        ports = {port: number for number, entry in enumerate(before, 1) for port in _published(entry, number, outputs)}
        for node in self.nodes:
            for port in (node.amqp_port, node.management_port, node.metrics_port):
                if not node.peers and (other := ports.get(port, node.number)) != node.number:
                    raise InvalidStack(
                        f"kryonix:amqpPort, kryonix:managementPort, kryonix:metricsPort: node {node.number} would "
                        f"publish port {port}, which node {other} has until it is replaced itself. Nothing has been "
                        "changed. Choose ports that no node has now"
                    )

    def problems(self) -> list[str]:
        """Return what keeps the nodes from finding each other by their names."""
        long = [node.container for node in self.nodes if self.clustered and not _NAME.fullmatch(node.container)]
        if not long:
            return []
        return [
            f"kryonix:brokerNodes: {long[0]!r} is not a valid host name of a node: up to 63 letters, digits, hyphens "
            "and underscores, without a period. Use a stack with another name"
        ]


def _published(entry: Mapping[str, Any], number: int, outputs: Mapping[str, Any]) -> list[int]:
    """Return the ports that a node published in the previous run. Only the first one's for metrics is an output."""
    metrics = urlsplit(str(outputs.get("metrics_url") or "")).port
    urls = [f"//{entry['amqp']}", str(entry["management"])]
    found = [port for url in urls if (port := urlsplit(url).port)]
    return [*found, metrics + PORT_STEP * (number - 1)] if metrics else found
