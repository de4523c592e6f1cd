"""Add nodes to a broker: is there room, which size, and the members of its queues on the new nodes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from kryonix.cluster.errors import ClusterNotReady
from kryonix.cluster.nodes import RecordedNode
from kryonix.engines.deployments import CONTAINER_TYPE, entries
from kryonix.errors import InvalidChoice

SIZES: Final = (1, 3, 5)
_SIZE: Final = 3
PORT_STEP: Final = 10
"""Distance between the same port of two nodes that one Docker host publishes."""
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
    """What a broker of several nodes needs of this machine. `memory` is one node's limit in bytes, 0 if unknown."""

    size: int
    memory: int
    ports: Mapping[str, Sequence[tuple[str, int]]]
    """Address and port that each new node publishes, by its container."""

    @classmethod
    def of(cls, deployment: Mapping[str, Any], first: str, size: int) -> Self:
        """Return what a broker of this size needs whose first container is `first`. Containers it has need no more."""
        containers = {
            str(r["inputs"].get("name")): r["inputs"] for r in entries(deployment) if r["type"] == CONTAINER_TYPE
        }
        own = containers.get(first, {})
        published = [(str(port.get("ip") or _ANY), int(port["external"])) for port in own.get("ports") or ()]
        names = {number: f"{first}-{number}" for number in range(2, size + 1)}
        return cls(
            size=size,
            memory=int(own.get("memory") or 0) * _MIB,
            ports={
                name: [(ip, port + PORT_STEP * (number - 1)) for ip, port in published]
                for number, name in names.items()
                if name not in containers
            },
        )

    def check(self, first: RecordedNode) -> None:
        """Raise ClusterNotReady if this machine has not the memory or the ports. Raises ServiceUnreachable."""
        with first.docker_host() as client:
            total = int(client.info()["MemTotal"])
            # Those of a killed run, too.
            existing = {name.lstrip("/") for each in client.containers(all=True) for name in each["Names"]}
        problems = [
            f"port {port} is in use, and {name} would publish it"
            for name, published in self.ports.items()
            for address, port in published
            if name not in existing and not is_free(address, port)
        ]
        if self.size * self.memory > total:
            problems.append(
                f"{self.size} nodes of {self.memory // _MIB:,} MiB each exceed the {total // _MIB:,} MiB of this "
                "machine. Lower kryonix:brokerMemoryMb, or give nodes machines of their own with kryonix:hosts"
            )
        if problems:
            text = "\n".join(f"  {problem}" for problem in problems)
            raise ClusterNotReady(f"there is no room for {self.size} nodes; nothing has been changed:\n{text}")


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
