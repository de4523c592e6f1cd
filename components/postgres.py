"""PostgresContainer: the PostgreSQL server of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.containers import ENTRYPOINT_CAPABILITIES, NO_NEW_PRIVILEGES
from components.errors import InvalidStack
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_ROLE = "postgres"
"""The container's part in its name and on its network, whatever the component is called."""

_SUPERUSER = "kryonix_admin"
_START_TIMEOUT_S = 120
_DATA = "/var/lib/postgresql/data"


@dataclass(frozen=True, kw_only=True)
class PostgresContainerArgs:
    """The server's address and memory; `memory_mb` in MiB."""

    image: str
    address: str
    port: int
    memory_mb: int = 512
    ignore_changes: Sequence[str] = ()
    """Inputs of the container to leave unchanged."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InvalidStack(f"kryonix:registryPort: {self.port} is not a valid port (1-65535)")


class PostgresContainer(pulumi.ComponentResource):
    """A network, a volume and a container, which counts as created once the server answers."""

    container: docker.Container
    volume: docker.Volume
    username: str
    password: pulumi.Output[str]

    def __init__(self, name: str, args: PostgresContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:PostgresContainer", name, None, opts)
        child, host = pulumi.ResourceOptions(parent=self), f"kryonix-{pulumi.get_stack()}-{_ROLE}"
        # A network of its own: any container on Docker's default bridge could reach the server's port.
        network = docker.Network(f"{name}-network", name=f"{host}-network", driver="bridge", opts=child)
        self.volume = docker.Volume(f"{name}-data", name=f"{host}-data", opts=child)
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child)
        verifier = password.result.apply(lambda text: scram_verifier(_SUPERUSER, text))
        self.container = docker.Container(
            f"{name}-container",
            name=host,
            hostname=host,
            image=args.image,
            restart="unless-stopped",
            memory=args.memory_mb,
            memory_swap=2 * args.memory_mb,  # Docker's own default; if omitted, every preview would show its removal
            shm_size=128,
            destroy_grace_seconds=60,
            # The server stores a verifier unchanged, so the password itself never enters the container.
            envs=[
                f"POSTGRES_USER={_SUPERUSER}",
                pulumi.Output.concat("POSTGRES_PASSWORD=", verifier),
                "POSTGRES_DB=postgres",
                f"PGDATA={_DATA}",
            ],
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=network.name, aliases=[_ROLE])],
            volumes=[docker.ContainerVolumeArgs(volume_name=self.volume.name, container_path=_DATA)],
            ports=[docker.ContainerPortArgs(internal=5432, ip=args.address, external=args.port)],
            read_only=True,
            tmpfs={"/tmp": "", "/var/run/postgresql": ""},  # noqa: S108, a folder of the container's own
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=list(ENTRYPOINT_CAPABILITIES)),
            security_opts=[NO_NEW_PRIVILEGES],
            # By TCP: while a new database is made, the server listens on its socket only.
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", "pg_isready", "-h", "127.0.0.1", "-U", _SUPERUSER, "-d", "postgres"],
                interval="2s",
                timeout="5s",
                retries=30,
                start_period="30s",
            ),
            wait=True,
            wait_timeout=_START_TIMEOUT_S,
            opts=pulumi.ResourceOptions(
                parent=self, delete_before_replace=True, ignore_changes=list(args.ignore_changes)
            ),
        )
        self.username, self.password = _SUPERUSER, password.result
        self.register_outputs({"container_id": self.container.id, "password": self.password})
