"""What containers tell of themselves, and where they reach this process."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from docker import DockerClient
from docker.models.containers import Container

from tests.support.waiting import eventually

__all__ = ["bridge_address", "output_of", "process_status"]


def output_of(container: Container, *command: str, user: str = "", env: Mapping[str, str] | None = None) -> str:
    """Return what a command prints that always prints something, and may run twice. Fails where the command does.

    Asks again where it is nothing: on a busy machine Docker may lose a quick command's output.
    """

    def printed() -> str:
        status, output = container.exec_run(list(command), user=user, environment=dict(env or {}))
        assert status == 0, f"{container.name}: {command}: {output.decode()}"
        return str(output.decode())

    return eventually(f"what {command} prints", printed)


def process_status(container: Container) -> dict[str, str]:
    """Return the kernel's fields of the container's first process: its users, its capabilities."""
    return dict(line.split(":", 1) for line in output_of(container, "cat", "/proc/1/status").splitlines())


def bridge_address(client: DockerClient) -> str:
    """Return this machine's address on Docker's bridge. A daemon that was just started tells the subnet only."""
    (pool,) = client.networks.get("bridge").attrs["IPAM"]["Config"]
    return str(pool.get("Gateway") or ip_network(pool["Subnet"])[1])
