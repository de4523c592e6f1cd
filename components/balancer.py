"""Balancer: HAProxy before the broker's nodes, one address for clients that can't take several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components.balancer_settings import BalancerSettings
from components.containers import hardened_container
from components.platform_inside import NodeInside
from kryonix.topology.addresses import host_port

ROLE: Final = "balancer"
FOLDER: Final = "/usr/local/etc/haproxy"

_FILE: Final = Path(__file__).parent / "balancer_files" / "haproxy.cfg"
_AMQP_PORT: Final = 5672
_HEALTH_PORT: Final = 8404
_MEMORY_MB: Final = 512
"""8,000 connections, each with two buffers of 16 KiB."""
_START_TIMEOUT_S: Final = 120

# The image has bash, and no client for HTTP.
_HEALTH: Final = (
    f"exec 3<>/dev/tcp/127.0.0.1/{_HEALTH_PORT} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3"
    " && head -n 1 <&3 | grep -q ' 200 '"
)


@dataclass(frozen=True, kw_only=True)
class BalancerArgs:
    """The nodes and their network, and the address under which clients reach the balancer.

    `tls` says that the nodes speak TLS, and `trust` are the CAs (PEM) that issue their certificates, None if not known.
    """

    settings: BalancerSettings
    network: docker.Network
    nodes: Sequence[NodeInside]
    address: str
    advertised_host: str
    tls: bool = False
    trust: pulumi.Input[str] | None = None


class Balancer(pulumi.ComponentResource):
    """The container, which counts as created once a node takes connections through it."""

    address: pulumi.Output[str]

    def __init__(self, name: str, args: BalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Balancer", name, None, opts)
        verified = args.trust is not None
        files: dict[str, pulumi.Input[str]] = {
            "haproxy.cfg": configuration(args.nodes, tls=args.tls, verified=verified)
        }
        if args.trust is not None:
            files["ca.pem"] = args.trust
        if len(args.nodes) == 1:
            pulumi.log.warn(
                "kryonix:balancer: the broker has one node, so the balancer adds an address and nothing else. Set "
                "kryonix:brokerNodes to 3, or remove kryonix:balancer",
                self,
            )
        container = hardened_container(
            self,
            f"{name}-container",
            ROLE,
            networks=[args.network],
            memory_mb=_MEMORY_MB,
            volumes={},
            image=args.settings.image,
            user="haproxy",
            ports=[docker.ContainerPortArgs(internal=_AMQP_PORT, ip=args.address, external=args.settings.port)],
            # The root filesystem can't be read-only: Docker uploads no files into such a container.
            uploads=[docker.ContainerUploadArgs(file=f"{FOLDER}/{file}", content=text) for file, text in files.items()],
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", "bash", "-c", _HEALTH], interval="2s", timeout="5s", retries=15, start_period="30s"
            ),
            wait_timeout=_START_TIMEOUT_S,
        )
        published = host_port(args.advertised_host, args.settings.port)
        self.address = container.id.apply(lambda _: published)
        self.register_outputs({"address": self.address})


def configuration(nodes: Sequence[NodeInside], *, tls: bool = False, verified: bool = True) -> str:
    """Return HAProxy's configuration for these nodes. Their certificates are `verified` by the CAs in a file."""
    checked = _verified if verified else _unverified
    lines = (f"    {_server(node)}{checked(node) if tls else ''}\n" for node in nodes)
    return _FILE.read_text(encoding="utf-8") + "".join(lines)


def _server(node: NodeInside) -> str:
    """Return a node's line: AMQP goes there as it is, the check asks its management API."""
    return f"server {node.name} {node.amqp} check port {node.management_port}"


def _verified(node: NodeInside) -> str:
    return f" check-ssl check-sni {node.name} verify required verifyhost {node.name} ca-file {FOLDER}/ca.pem"


def _unverified(node: NodeInside) -> str:
    """Return the options for certificates of CAs that only clients know. The check sends no secret."""
    return f" check-ssl check-sni {node.name} verify none"
