"""What a service of the platform has in Docker: its network, volume and hardened container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.previous_run import NO_NEW_PRIVILEGES
from components.settings import PlatformSettings
from components.tls_settings import CERTIFICATE, FOLDER
from kryonix.topology.naming import platform_container

Inputs = dict[str, Any]
"""The inputs of a container."""

ENTRYPOINT_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID")
"""Capabilities of an entrypoint that starts as root: take ownership of its volume, and become the service's user."""


def container_name(role: str) -> str:
    """Return the name of a service's container. `role` is its part on the network, whatever its component is called."""
    return platform_container(pulumi.get_stack(), role)


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """The platform's settings, and the inputs of the container to leave unchanged."""

    settings: PlatformSettings
    ignore_changes: Sequence[str] = ()


def service_network(
    parent: pulumi.Resource, name: str, container: str, daemon: docker.Provider | None = None
) -> docker.Network:
    """Return the network of a service: any container on Docker's default bridge could reach the service's ports."""
    opts = pulumi.ResourceOptions(parent=parent, provider=daemon)
    return docker.Network(name, name=f"{container}-network", driver="bridge", opts=opts)


def service_volume(
    parent: pulumi.Resource, name: str, container: str, daemon: docker.Provider | None = None
) -> docker.Volume:
    """Return the volume of a service's data."""
    return docker.Volume(name, name=f"{container}-data", opts=pulumi.ResourceOptions(parent=parent, provider=daemon))


def certificate_volume(
    parent: pulumi.Resource, name: str, container: str, daemon: docker.Provider | None = None
) -> docker.Volume:
    """Return the volume of a service's certificate."""
    return docker.Volume(name, name=f"{container}-tls", opts=pulumi.ResourceOptions(parent=parent, provider=daemon))


def entry_with_certificate(user: str, prepare: str = "true") -> list[str]:
    """Return the entrypoint of a service that reads its certificate as `user`: it gives the folder to it, and waits.

    The keeper of certificates writes as soon as the folder has an owner. `prepare` is a command to run before the
    image's own entrypoint.
    """
    wait = f"until test -s {CERTIFICATE}; do sleep 0.2; done"
    say = f"test -s {CERTIFICATE} || echo 'waiting for {CERTIFICATE}, which the keeper of certificates writes' >&2"
    script = f"trap 'exit 143' TERM; chown {user}: {FOLDER} && {{ {say}; {wait}; {prepare}; }}"
    return ["sh", "-c", f'{script} && exec docker-entrypoint.sh "$@"', "--"]


def hardened_container(
    parent: pulumi.Resource, name: str, role: str, *, ignore_changes: Sequence[str] = (), **inputs: Any
) -> docker.Container:
    """Return a container that counts as created once it is healthy, with `hardened` inputs."""
    return created(parent, name, hardened(container_name(role), aliases=[role], **inputs), ignore_changes)


def created(
    parent: pulumi.Resource,
    name: str,
    inputs: Inputs,
    ignore_changes: Sequence[str],
    daemon: docker.Provider | None = None,
    after: pulumi.Input[Sequence[pulumi.Resource]] = (),
) -> docker.Container:
    """Return a container. A second one can't use the name, the ports and the volume of the first one."""
    opts = pulumi.ResourceOptions(
        parent=parent,
        provider=daemon,
        depends_on=after,
        delete_before_replace=True,
        ignore_changes=list(ignore_changes),
    )
    return docker.Container(name, opts=opts, **inputs)


def hardened(
    container: str,
    *,
    aliases: Sequence[str],
    networks: Sequence[docker.Network | str],
    memory_mb: int,
    volumes: Mapping[str, docker.Volume | str],
    mounts: Sequence[docker.ContainerVolumeArgs] = (),
    adds: Sequence[str] = (),
    **inputs: Any,
) -> Inputs:
    """Return the inputs of a container that may do nothing beyond `adds`.

    `memory_mb` is in MiB, `volumes` are by path; one that is only named is made by Docker, and stays. `mounts` are
    those that are read-only, and folders of the Docker host. On each network the container has the aliases for names.
    """
    return {
        "name": container,
        "restart": "unless-stopped",
        "memory": memory_mb,
        "memory_swap": 2 * memory_mb,  # Docker's own default; if omitted, every preview would show its removal
        "destroy_grace_seconds": 60,
        "networks_advanced": [
            docker.ContainerNetworksAdvancedArgs(name=_named(network), aliases=list(aliases)) for network in networks
        ],
        "volumes": [
            docker.ContainerVolumeArgs(volume_name=_named(volume), container_path=path)
            for path, volume in volumes.items()
        ]
        + list(mounts),
        "capabilities": docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=list(adds) or None),
        "security_opts": [NO_NEW_PRIVILEGES],
        "wait": True,
        **inputs,
    }


def _named(thing: docker.Network | docker.Volume | str) -> pulumi.Input[str]:
    return thing if isinstance(thing, str) else thing.name
