"""PostgresContainer: the PostgreSQL server of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.containers import Service
from components.settings import PlatformSettings
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_SUPERUSER = "kryonix_admin"
_MEMORY_MB = 512
_START_TIMEOUT_S = 120
_DATA = "/var/lib/postgresql/data"


@dataclass(frozen=True, kw_only=True)
class PostgresContainerArgs:
    """The platform's settings, and the inputs of the container to leave unchanged."""

    settings: PlatformSettings
    ignore_changes: Sequence[str] = ()


class PostgresContainer(pulumi.ComponentResource):
    """A network, a volume and a container, which counts as created once the server answers."""

    container: docker.Container
    volume: docker.Volume
    username: str
    password: pulumi.Output[str]

    def __init__(self, name: str, args: PostgresContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:PostgresContainer", name, None, opts)
        child, settings = pulumi.ResourceOptions(parent=self), args.settings
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child)
        verifier = password.result.apply(lambda text: scram_verifier(_SUPERUSER, text))
        service = Service.run(
            self,
            name,
            "postgres",
            memory_mb=_MEMORY_MB,
            data=_DATA,
            ignore_changes=args.ignore_changes,
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
        self.container, self.volume = service.container, service.volume
        self.username, self.password = _SUPERUSER, password.result
        self.register_outputs({"container_id": self.container.id, "password": self.password})
