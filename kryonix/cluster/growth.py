"""Add nodes to a broker: is there room, which size, and the members of its queues on the new nodes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Self

from kryonix.cluster.errors import ClusterNotReady
from kryonix.cluster.nodes import RecordedNode
from kryonix.engines.deployments import CONTAINER_TYPE, entries
from kryonix.errors import InvalidChoice

SIZES: Final = (1, 3, 5)
_SIZE: Final = 3
PORT_STEP: Final = 10
"""Distance between the same port of two nodes that one Docker host publishes."""
INTER_NODE_PORTS: Final = (4369, 25672)
"""epmd, which tells where a node listens and knows nothing else, and the node itself: between machines only."""
_ANSWER_S: Final = 2
_MIB: Final = 2**20
_ANY: Final = "0.0.0.0"  # noqa: S104, the default of Docker


def target_size(before: int, wanted: int | None) -> int:
    """Return the number of nodes to have: three, or as many as there are. Five only if they are asked for.

    So the same command, run again after it was killed, has the same target. Raises InvalidChoice for a number that is
    none.
    """
    if wanted is None:
        return max(before, _SIZE)
    if wanted not in SIZES or wanted == before == 1:
        raise InvalidChoice(f"--nodes {wanted} is not a size of a cluster: 3 or 5")
    if wanted < before:
        raise InvalidChoice(
            f"--nodes {wanted}: the cluster has {before} nodes, and can't shrink: queues would lose members, and with "
            "them their majority"
        )
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the nodes of a broker need of one Docker host. `memory` is one node's limit in bytes, 0 if unknown."""

    host: RecordedNode
    """A node of that host."""
    nodes: int
    """How many nodes run there then."""
    memory: int
    ports: Mapping[str, Sequence[tuple[str, int]]]
    """Address and port that each new node publishes, by its container."""

    @classmethod
    def of(
        cls, deployment: Mapping[str, Any], first: RecordedNode, size: int, hosts: Sequence[Mapping[str, Any]] = ()
    ) -> list[Self]:
        """Return what a broker of this size needs. `hosts` are the machines of `kryonix:hosts`, none for one machine.

        Containers that it has need no more.
        """
        containers = {
            str(r["inputs"].get("name")): r["inputs"] for r in entries(deployment) if r["type"] == CONTAINER_TYPE
        }
        own = containers.get(first.container, {})
        published = [(str(port.get("ip") or _ANY), int(port["external"])) for port in own.get("ports") or ()]
        memory = int(own.get("memory") or 0) * _MIB
        names = {number: f"{first.container}-{number}" for number in range(2, size + 1)}
        new = {number: name for number, name in names.items() if name not in containers}
        if not hosts:
            ports = {
                name: [(ip, port + PORT_STEP * (number - 1)) for ip, port in published] for number, name in new.items()
            }
            return [cls(host=first, nodes=size, memory=memory, ports=ports)]
        return [
            cls(
                host=RecordedNode(
                    number=number, name=name, container=name, docker=hosts[number - 1].get("docker") or ""
                ),
                nodes=1,
                memory=memory,
                ports={name: _elsewhere(published, hosts[0]["address"], hosts[number - 1]["address"])},
            )
            for number, name in new.items()
        ]

    def problems(self) -> list[str]:
        """Return what the host lacks. Raises ServiceUnreachable."""
        with self.host.docker_host() as client:
            total = int(client.info()["MemTotal"])
            # Those of a killed run, too.
            there = {name.lstrip("/"): each for each in client.containers(all=True) for name in each["Names"]}
        busy = [(str(p.get("IP") or _ANY), p.get("PublicPort")) for each in there.values() for p in each["Ports"]]
        place = self.host.docker or "this machine"
        found = [
            f"port {port} of {place} is in use, and {name} would publish it"
            for name, published in self.ports.items()
            for address, port in published
            if name not in there and (_is_published(address, port, busy) or not self._is_free(address, port))
        ]
        if self.nodes * self.memory > total:
            found.append(
                f"{self.nodes} node(s) of {self.memory // _MIB:,} MiB each exceed the {total // _MIB:,} MiB of "
                f"{place}. Lower kryonix:brokerMemoryMb, or give each node a machine with more in kryonix:hosts"
            )
        return found

    def _is_free(self, address: str, port: int) -> bool:
        return not answers(address, port) if self.host.docker else is_free(address, port)


def refuse_crowded(rooms: Iterable[Room], size: int) -> None:
    """Raise ClusterNotReady if a Docker host has not the memory or the ports. Raises ServiceUnreachable."""
    if problems := [problem for room in rooms for problem in room.problems()]:
        text = "\n".join(f"  {problem}" for problem in problems)
        raise ClusterNotReady(f"there is no room for {size} nodes; nothing has been changed:\n{text}")


def _elsewhere(published: Sequence[tuple[str, int]], first: str, address: str) -> list[tuple[str, int]]:
    """Return what a node publishes on its own machine: what the first one does, at that machine's address."""
    found = [(address if ip == first else ip, port) for ip, port in published]
    return list(dict.fromkeys([*found, *((address, port) for port in INTER_NODE_PORTS)]))


def _is_published(address: str, port: int, published: Iterable[tuple[str, int | None]]) -> bool:
    anywhere = (_ANY, "::")
    return any(port == other and (ip == address or ip in anywhere or address in anywhere) for ip, other in published)


def answers(address: str, port: int) -> bool:
    """Return True if another machine accepts a connection at the port. Its loopback can't be asked from here."""
    if ip_address(address).is_loopback or ip_address(address).is_unspecified:
        return False
    try:
        with socket.create_connection((address, port), _ANSWER_S):
            return True
    except OSError:
        return False


def is_free(address: str, port: int) -> bool:
    """Return False if another program of this machine listens at the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Docker's proxy binds it
        try:
            tried.bind((address, port))
        except OverflowError:
            return True  # the program refuses such a number
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # Docker's machine may be another one, with another address
    return True
