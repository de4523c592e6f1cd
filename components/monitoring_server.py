"""A server of the platform's monitoring in Docker: its volume, its files and its container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.containers import container_name, hardened_container
from components.monitoring_settings import MonitoringSettings

FILES: Final = Path(__file__).parent / "monitoring_files"
USERNAME: Final = "kryonix"
"""The user of Prometheus and Alertmanager beyond loopback."""
PASSWORD_FILE: Final = "monitoring_password"  # noqa: S105, a file's name

_WEB_CONFIG: Final = "web.yml"
_START_TIMEOUT_S: Final = 120


@dataclass(frozen=True, kw_only=True)
class MonitoringServerArgs:
    """The networks that a server joins, its URL, and the login.

    A server sends `password` to the others always: where none is required they ignore it. `web_config` requires it.
    """

    settings: MonitoringSettings
    networks: Sequence[docker.Network]
    url: str
    password: pulumi.Input[str]
    web_config: pulumi.Input[str] = ""


@dataclass(frozen=True, kw_only=True)
class Server:
    """What differs between the servers. `user` owns the folder of `files` and that of the data, in the image too."""

    role: str
    image: str
    port: int
    published: int
    memory_mb: int
    user: str
    folder: str
    data: str
    health: str
    """Path that answers 200, or 401 where a login is required."""
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class MonitoringServer(pulumi.ComponentResource):
    """A container whose files are its configuration: a change replaces it, and the data stay in the volume."""

    container: docker.Container

    def _run(
        self,
        name: str,
        args: MonitoringServerArgs,
        server: Server,
        files: Mapping[str, pulumi.Input[str]],
        volumes: Mapping[str, docker.Volume] | None = None,
    ) -> None:
        """Create the children. `files` are by path in the server's folder, `volumes` are further ones."""
        data = self._volume(f"{name}-data", f"{server.role}-data")
        secret: Mapping[str, pulumi.Input[str]] = {PASSWORD_FILE: pulumi.Output.secret(args.password)}
        required: dict[str, Any] = {}
        if args.settings.authenticated:
            required = {_WEB_CONFIG: pulumi.Output.secret(args.web_config)}
        self.container = hardened_container(
            self,
            f"{name}-container",
            server.role,
            networks=args.networks,
            memory_mb=server.memory_mb,
            volumes={server.data: data, **(volumes or {})},
            image=server.image,
            user=server.user,
            command=list(server.command) or None,
            envs=[f"{key}={value}" for key, value in sorted(server.environment.items())] or None,
            ports=[docker.ContainerPortArgs(internal=server.port, ip=args.settings.address, external=server.published)],
            # The root filesystem can't be read-only: Docker uploads no files into such a container. Its user can write
            # into its volumes only.
            uploads=[
                docker.ContainerUploadArgs(file=f"{server.folder}/{file}", content=text)
                for file, text in {**files, **secret, **required}.items()
            ],
            healthcheck=_answers(f"http://127.0.0.1:{server.port}{server.health}"),
            wait_timeout=_START_TIMEOUT_S,
        )

    def _volume(self, name: str, role: str) -> docker.Volume:
        return docker.Volume(name, name=container_name(role), opts=pulumi.ResourceOptions(parent=self))


def web_options(args: MonitoringServerArgs, folder: str) -> list[str]:
    """Return the options of Prometheus and Alertmanager for their own address and the login that they require."""
    login = [f"--web.config.file={folder}/{_WEB_CONFIG}"] if args.settings.authenticated else []
    return [f"--web.external-url={args.url}", *login]


def read_files(pattern: str) -> dict[str, str]:
    """Return the content of configuration files by their path in `FILES`."""
    return {str(file.relative_to(FILES)): file.read_text(encoding="utf-8") for file in sorted(FILES.glob(pattern))}


def _answers(url: str) -> docker.ContainerHealthcheckArgs:
    """Return a check that a server answers, if only by asking for the login: that is not in a container's settings."""
    return docker.ContainerHealthcheckArgs(
        tests=["CMD", "sh", "-c", f"wget -S -O /dev/null {url} 2>&1 | grep -qE 'HTTP/1.1 (200|401)'"],
        interval="5s",
        timeout="5s",
        retries=12,
        start_period="30s",
    )
