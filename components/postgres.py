"""PostgresContainer: the PostgreSQL server of the registry."""

from __future__ import annotations

from typing import Any, Final

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.containers import (
    ENTRYPOINT_CAPABILITIES,
    Inputs,
    ServiceArgs,
    certificate_volume,
    container_name,
    created,
    entry_with_certificate,
    hardened,
    service_network,
    service_volume,
)
from components.settings import PlatformSettings
from components.tls_settings import CERTIFICATE, FOLDER
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_ROLE = "postgres"
_SUPERUSER = "kryonix_admin"
_MEMORY_MB = 512
_START_TIMEOUT_S = 120
_DATA = "/var/lib/postgresql/data"
PORT: Final = 5432

_HBA: Final = "/tmp/pg_hba.conf"  # noqa: S108, a folder of the container's own
_RULES: Final = ("local all all trust", "hostssl all all all scram-sha-256")
"""Who may connect where TLS is on: nobody by TCP without it. The socket is in the container."""


class PostgresContainer(pulumi.ComponentResource):
    """The server."""

    network: docker.Network
    volume: docker.Volume
    certificate: docker.Volume | None = None
    """None without TLS."""
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
        if settings.tls.on:
            self.certificate = certificate_volume(self, f"{name}-tls", container)
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
            volumes={_DATA: self.volume, **({FOLDER: self.certificate} if self.certificate else {})},
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
            ports=[docker.ContainerPortArgs(internal=PORT, ip=settings.address, external=settings.registry_port)],
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
            **(_encrypted() if settings.tls.on else {}),
        )


def _encrypted() -> dict[str, Any]:
    """Return the inputs that make the server refuse what is not encrypted."""
    options = {
        "ssl": "on",
        "ssl_cert_file": CERTIFICATE,
        "ssl_key_file": CERTIFICATE,
        "ssl_min_protocol_version": "TLSv1.2",
        "hba_file": _HBA,
    }
    rules = " ".join(f"'{rule}'" for rule in _RULES)
    return {
        # The root filesystem is read-only, so Docker can't upload the file.
        "entrypoints": entry_with_certificate("postgres", f"printf '%s\\n' {rules} >{_HBA}"),
        "command": ["postgres", *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))],
    }
