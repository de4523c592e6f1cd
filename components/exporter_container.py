"""ExporterContainer: `kryonix exporter` of a platform, with logins that can only read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.product import ProductSettings
from components.product_container import PLATFORM_FILE, USER, ProductContainer, ProductContainerArgs, answers

PORT: Final = 9420
_MEMORY_MB: Final = 384


@dataclass(frozen=True, kw_only=True)
class ExporterContainerArgs:
    """The networks of broker, registry and Prometheus, and the platform as it is reached on them.

    `options` are further options of the command, `files` further ones beside the platform's. `volumes` are by path,
    `user` is their owner.
    """

    product: ProductSettings
    networks: Sequence[docker.Network]
    platform: Mapping[str, pulumi.Input[Any]]
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    options: Sequence[str] = ()
    volumes: Mapping[str, docker.Volume | str] = field(default_factory=dict)
    user: str = USER


class ExporterContainer(ProductContainer):
    """The exporter, at `exporter:9420` on its networks."""

    def __init__(self, name: str, args: ExporterContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        stack = pulumi.get_stack()
        container = ProductContainerArgs(
            product=args.product,
            role="exporter",
            command=["exporter", "--stack", stack, "--host", "0.0.0.0", "--port", str(PORT), *args.options],  # noqa: S104, within its networks
            networks=args.networks,
            files={PLATFORM_FILE: platform_file(args.platform), **args.files},
            healthy=answers(PORT, "/metrics"),
            memory_mb=_MEMORY_MB,
            environment={"KRYONIX_PLATFORM_FILE": PLATFORM_FILE},
            volumes=args.volumes,
            user=args.user,
        )
        super().__init__(name, container, opts)


def platform_file(outputs: Mapping[str, pulumi.Input[Any]]) -> pulumi.Output[str]:
    """Return the content of KRYONIX_PLATFORM_FILE for this stack, a secret."""
    stack = pulumi.get_stack()
    text = pulumi.Output.all(**outputs).apply(lambda known: json.dumps({stack: known}, sort_keys=True))
    return pulumi.Output.secret(text)
