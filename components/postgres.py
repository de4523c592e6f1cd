"""PostgresContainer: the PostgreSQL server of the registry."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.containers import Service, ServiceArgs
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_SUPERUSER = "kryonix_admin"
_MEMORY_MB = 512
_START_TIMEOUT_S = 120
_DATA = "/var/lib/postgresql/data"


class PostgresContainer(Service):
    """The server."""

    username: str
    password: pulumi.Output[str]

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:PostgresContainer", name, None, opts)
        child, settings = pulumi.ResourceOptions(parent=self), args.settings
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child)
        verifier = password.result.apply(lambda text: scram_verifier(_SUPERUSER, text))
        self._run(
            name,
            "postgres",
            args,
            memory_mb=_MEMORY_MB,
            data=_DATA,
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
        self.username, self.password = _SUPERUSER, password.result
        self.register_outputs({"container_id": self.container.id, "password": self.password})
