"""The Docker daemons of a platform's machines."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_docker as docker

from components.host_settings import HostSettings

Daemons = Sequence[docker.Provider]
"""One per node, in order; none where all nodes run by the default daemon."""


def docker_daemons(hosts: HostSettings) -> Daemons:
    """Declare a provider per machine. Certificates are in the folder DOCKER_CERT_PATH, so they are in no state."""
    return [docker.Provider(f"docker-{number}", host=host.docker or None) for number, host in enumerate(hosts, 1)]


def on_machine(daemons: Daemons, number: int) -> pulumi.ResourceOptions:
    """Return the options that put resources on the machine of a node."""
    return pulumi.ResourceOptions(providers=[daemons[number - 1]] if daemons else [])
