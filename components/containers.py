"""A service of the platform in Docker: its network, volume and container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.previous_run import NO_NEW_PRIVILEGES

_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
"""Capabilities of an entrypoint that starts as root: take ownership of its volume, and become the service's user."""


def container_name(role: str) -> str:
    """Return the name of a service's container. `role` is its part on the network, whatever its component is called."""
    return f"kryonix-{pulumi.get_stack()}-{role}"


@dataclass(frozen=True, kw_only=True)
class Service:
    """The resources of a service. Its container counts as created once the service answers."""

    network: docker.Network
    volume: docker.Volume
    container: docker.Container

    @classmethod
    def run(
        cls,
        component: pulumi.ComponentResource,
        name: str,
        role: str,
        *,
        memory_mb: int,
        data: str,
        ignore_changes: Sequence[str],
        **inputs: Any,
    ) -> Service:
        """Create the children of a component. `data` is the volume's path, `memory_mb` is in MiB."""
        child, host = pulumi.ResourceOptions(parent=component), container_name(role)
        # A network of its own: any container on Docker's default bridge could reach the service's ports.
        network = docker.Network(f"{name}-network", name=f"{host}-network", driver="bridge", opts=child)
        volume = docker.Volume(f"{name}-data", name=f"{host}-data", opts=child)
        container = docker.Container(
            f"{name}-container",
            name=host,
            hostname=host,  # part of the broker's node name, and so of its data directory's
            restart="unless-stopped",
            memory=memory_mb,
            memory_swap=2 * memory_mb,  # Docker's own default; if omitted, every preview would show its removal
            destroy_grace_seconds=60,
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=network.name, aliases=[role])],
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path=data)],
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=list(_CAPABILITIES)),
            security_opts=[NO_NEW_PRIVILEGES],
            wait=True,
            # A second container can't use the name, the ports and the volume of the first one.
            opts=pulumi.ResourceOptions(
                parent=component, delete_before_replace=True, ignore_changes=list(ignore_changes)
            ),
            **inputs,
        )
        return cls(network=network, volume=volume, container=container)
