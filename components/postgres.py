"""PostgresContainer: the PostgreSQL server of the registry."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.containers import (
    ENTRYPOINT_CAPABILITIES,
    Inputs,
    ServiceArgs,
    container_name,
    created,
    hardened,
    service_network,
    service_volume,
)
from components.settings import PlatformSettings
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_ROLE = "postgres"
_SUPERUSER = "kryonix_admin"
_MEMORY_MB = 512
_START_TIMEOUT_S = 120
_DATA = "/var/lib/postgresql/data"


class PostgresContainer(pulumi.ComponentResource):
    """The server."""

    network: docker.Network
    volume: docker.Volume
    container: docker.Container
    username: str
    password: pulumi.Output[str]

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:PostgresContainer", name, None, opts)
        child, settings = pulumi.ResourceOptions(parent=self), args.settings
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child)
        verifier = password.result.apply(lambda text: scram_verifier(_SUPERUSER, text))
        container = container_name(_ROLE)
        self.network = service_network(self, f"{name}-network", container)
        self.volume = service_volume(self, f"{name}-data", container)
        inputs = self._inputs(settings, verifier)
        self.container = created(self, f"{name}-container", inputs, args.ignore_changes)
        self.username, self.password = _SUPERUSER, password.result
        self.register_outputs({"container_id": self.container.id, "password": self.password})

    def _inputs(self, settings: PlatformSettings, verifier: pulumi.Input[str]) -> Inputs:
        return hardened(
            container_name(_ROLE),
            aliases=[_ROLE],
            hostname=container_name(_ROLE),
            networks=[self.network],
            memory_mb=_MEMORY_MB,
            volumes={_DATA: self.volume},
            adds=ENTRYPOINT_CAPABILITIES,
            image=settings.postgres_image,
            shm_size=128,
            # The server stores a verifier unchanged, so the password itself never enters the container.
            envs=[
                f"POSTGRES_USER={_SUPERUSER}",
                pulumi.Output.concat("POSTGRES_PASSWORD=", verifier),
                "POSTGRES_DB=postgres",
                f"PGDATA={_DATA}",
            ],
            ports=[docker.ContainerPortArgs(internal=5432, ip=settings.address, external=settings.registry_port)],
            read_only=True,
            tmpfs={"/tmp": "", "/var/run/postgresql": ""},  # noqa: S108, a folder of the container's own
            # By TCP: while a new database is made, the server listens on its socket only.
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", "pg_isready", "-h", "127.0.0.1", "-U", _SUPERUSER, "-d", "postgres"],
                interval="2s",
                timeout="5s",
                retries=30,
                start_period="30s",
            ),
            wait_timeout=_START_TIMEOUT_S,
        )
