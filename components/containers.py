"""A service of the platform in Docker: its network, volume and container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.previous_run import NO_NEW_PRIVILEGES
from components.settings import PlatformSettings

_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
"""Capabilities of an entrypoint that starts as root: take ownership of its volume, and become the service's user."""


def container_name(role: str) -> str:
    """Return the name of a service's container. `role` is its part on the network, whatever its component is called."""
    return f"kryonix-{pulumi.get_stack()}-{role}"


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """The platform's settings, and the inputs of the container to leave unchanged."""

    settings: PlatformSettings
    ignore_changes: Sequence[str] = ()


class Service(pulumi.ComponentResource):
    """A network, a volume and a container, which counts as created once the service answers."""

    network: docker.Network
    volume: docker.Volume
    container: docker.Container

    def _run(self, name: str, role: str, args: ServiceArgs, *, memory_mb: int, data: str, **inputs: Any) -> None:
        """Create the children. `data` is the volume's path, `memory_mb` is in MiB."""
        child, host = pulumi.ResourceOptions(parent=self), container_name(role)
        # A network of its own: any container on Docker's default bridge could reach the service's ports.
        self.network = docker.Network(f"{name}-network", name=f"{host}-network", driver="bridge", opts=child)
        self.volume = docker.Volume(f"{name}-data", name=f"{host}-data", opts=child)
        self.container = hardened_container(
            self,
            f"{name}-container",
            role,
            networks=[self.network],
            memory_mb=memory_mb,
            volumes={data: self.volume},
            adds=_CAPABILITIES,
            ignore_changes=args.ignore_changes,
            hostname=host,  # part of the broker's node name, and so of its data directory's
            **inputs,
        )


def hardened_container(
    parent: pulumi.Resource,
    name: str,
    role: str,
    *,
    networks: Sequence[docker.Network],
    memory_mb: int,
    volumes: Mapping[str, docker.Volume | str],
    mounts: Sequence[docker.ContainerVolumeArgs] = (),
    adds: Sequence[str] = (),
    ignore_changes: Sequence[str] = (),
    **inputs: Any,
) -> docker.Container:
    """Return a container that counts as created once it is healthy, and may do nothing beyond `adds`.

    `memory_mb` is in MiB, `volumes` are by path; one that is only named is made by Docker, and stays. `mounts` are
    those that are read-only, and folders of the Docker host. On each network the container has its role for a name.
    """
    return docker.Container(
        name,
        name=container_name(role),
        restart="unless-stopped",
        memory=memory_mb,
        memory_swap=2 * memory_mb,  # Docker's own default; if omitted, every preview would show its removal
        destroy_grace_seconds=60,
        networks_advanced=[
            docker.ContainerNetworksAdvancedArgs(name=network.name, aliases=[role]) for network in networks
        ],
        volumes=[
            docker.ContainerVolumeArgs(
                volume_name=volume if isinstance(volume, str) else volume.name, container_path=path
            )
            for path, volume in volumes.items()
        ]
        + list(mounts),
        capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=list(adds) or None),
        security_opts=[NO_NEW_PRIVILEGES],
        wait=True,
        # A second container can't use the name, the ports and the volume of the first one.
        opts=pulumi.ResourceOptions(parent=parent, delete_before_replace=True, ignore_changes=list(ignore_changes)),
        **inputs,
    )
