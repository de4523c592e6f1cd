"""Exporter: the broker's own Prometheus metrics, and a user to scrape them beyond loopback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.node_settings import NodeSettings
from kryonix.topology.addresses import host_port, is_loopback, reached_as
from kryonix.topology.credentials import PASSWORD_LENGTH

_USER = "kryonix-metrics"


@dataclass(frozen=True, kw_only=True)
class MetricsEndpoint:
    """The metrics' address. On loopback they are open; beyond it they require a user."""

    address: str = "127.0.0.1"
    port: int = 9419
    tls: bool = False

    @property
    def authenticated(self) -> bool:
        return not is_loopback(self.address)

    @property
    def broker_settings(self) -> str:
        """Return the broker's configuration for this endpoint."""
        return "prometheus.authentication.enabled = true\n" if self.authenticated else ""

    def url(self, host: str) -> str:
        """Return the URL under the broker's advertised host, or on loopback under the metrics' own address."""
        return f"{'https' if self.tls else 'http'}://{host_port(reached_as(self.address, host), self.port)}/metrics"

    def urls(self, advertised_host: str, nodes: NodeSettings) -> list[str]:
        """Return the URL of each node."""
        further = [replace(self, port=node.metrics_port).url(node.address) for node in nodes.nodes[1:]]
        return [self.url(advertised_host), *further]


@dataclass(frozen=True, kw_only=True)
class ExporterArgs:
    """The broker's endpoint, the host name for other machines, and the nodes."""

    endpoint: MetricsEndpoint
    advertised_host: str
    nodes: NodeSettings


class Exporter(pulumi.ComponentResource):
    """The metrics of a broker: their URL, and who may read them."""

    outputs: dict[str, pulumi.Output[Any]]
    """The stack outputs of the metrics."""

    def __init__(self, name: str, args: ExporterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Exporter", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child).result
        user = rabbitmq.User(f"{name}-user", name=_USER, password=password, tags=["monitoring"], opts=child)
        # The broker serves metrics once it is up, which is when its user exists.
        urls = user.name.apply(lambda _: args.endpoint.urls(args.advertised_host, args.nodes))
        self.outputs = {
            "metrics_url": urls[0],
            "metrics_urls": urls,
            "metrics_username": user.name,
            "metrics_password": password,
        }
        self.register_outputs({"metrics_url": urls[0], "username": user.name, "password": password})
