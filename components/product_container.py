"""ProductContainer: a container of the product's own image, as a user without rights, configured by files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
import pulumi_docker as docker

from components.containers import hardened_container
from components.product import ProductSettings

FILES: Final = "/etc/kryonix"
PLATFORM_FILE: Final = f"{FILES}/platform.json"
USER: Final = "10001:10001"
"""The image's own user."""
SOURCE_LABEL: Final = "br.com.kryonix.source"

CA_FILE: Final = f"{FILES}/ca.pem"
"""The CAs that a container's clients trust, where the platform has TLS."""

_CELLS: Final = "/srv/kryonix/cells.yaml"
_START_TIMEOUT_S: Final = 180


@dataclass(frozen=True, kw_only=True)
class ProductContainerArgs:
    """What runs, on which networks, and with which files: secrets are never in the environment.

    `healthy` is a line of Python that fails if the service is not. `memory_mb` is in MiB.
    """

    product: ProductSettings
    role: str
    command: Sequence[str]
    networks: Sequence[docker.Network]
    files: Mapping[str, pulumi.Input[str]]
    healthy: str
    memory_mb: int
    environment: Mapping[str, str] = field(default_factory=dict)
    port: docker.ContainerPortArgs | None = None
    volumes: Mapping[str, docker.Volume | str] = field(default_factory=dict)
    mounts: Sequence[docker.ContainerVolumeArgs] = ()
    user: str = USER
    adds: Sequence[str] = ()
    """Capabilities."""


class ProductContainer(pulumi.ComponentResource):
    """The container, which counts as created once its service is healthy."""

    container: docker.Container

    def __init__(self, name: str, args: ProductContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:ProductContainer", name, None, opts)
        files = {**args.files, **({_CELLS: args.product.cells} if args.product.cells else {})}
        labels = {SOURCE_LABEL: args.product.source} if args.product.source else {}
        self.container = hardened_container(
            self,
            f"{name}-container",
            args.role,
            networks=args.networks,
            memory_mb=args.memory_mb,
            volumes=args.volumes,
            mounts=args.mounts,
            adds=args.adds,
            image=args.product.image,
            command=list(args.command),
            user=args.user,
            envs=[f"{key}={value}" for key, value in sorted(args.environment.items())],
            labels=[docker.ContainerLabelArgs(label=label, value=value) for label, value in labels.items()],
            ports=[args.port] if args.port else None,
            uploads=[docker.ContainerUploadArgs(file=file, content=text) for file, text in files.items()],
            # Its user can write nowhere else. The root filesystem can't be read-only: Docker uploads no files into
            # such a container.
            tmpfs={"/tmp": ""},  # noqa: S108, a folder of the container's own
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", "python", "-c", args.healthy],
                interval="5s",
                timeout="10s",
                retries=6,
                start_period="1m0s",
            ),
            wait_timeout=_START_TIMEOUT_S,
        )
        self.register_outputs({"container_id": self.container.id})


def answers(port: int, path: str, *, tls: bool = False) -> str:
    """Return a line of Python that fails unless a port of this container answers 200, with whatever certificate."""
    kind, context = ("HTTPSConnection", ", context=ssl._create_unverified_context()") if tls else ("HTTPConnection", "")
    get = f"c = http.client.{kind}('127.0.0.1', {port}, timeout=8{context}); c.request('GET', '{path}')"
    return f"import http.client{', ssl' if tls else ''}; {get}; exit(c.getresponse().status != 200)"


def touched(file: str, seconds: int) -> str:
    """Return a line of Python that fails unless a file was touched in the last seconds."""
    return f"import os, time; exit(time.time() - os.stat('{file}').st_mtime > {seconds})"
