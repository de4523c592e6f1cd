"""PlatformInside: a platform as containers on its networks reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pulumi

from components.broker_listeners import listeners_of
from components.node_settings import Node
from components.postgres import PORT
from components.product_container import CA_FILE
from components.registry import Registry, verified
from components.settings import PlatformSettings
from kryonix.topology.addresses import host_port

BROKER_ADDRESS: Final = ("management_url", "amqp_host", "amqp_port")
"""The outputs with a broker's address."""


@dataclass(frozen=True, kw_only=True)
class PlatformInside:
    """The outputs that differ from the stack's. `broker` are those of them with the broker's address.

    The DSNs are those of the exporter's role and of the backups', None where these do not run. `trust_files` has the
    file with the CAs to trust, and nothing without TLS.
    """

    outputs: Mapping[str, pulumi.Input[Any]]
    broker: Mapping[str, pulumi.Input[Any]]
    reader_dsn: pulumi.Output[str] | None
    backup_dsn: pulumi.Output[str] | None
    trust_files: Mapping[str, pulumi.Input[str]]

    @classmethod
    def of(
        cls,
        registry: Registry,
        logins: Mapping[str, pulumi.Input[Any]],
        trust: pulumi.Output[str] | None,
        elsewhere: Sequence[Node] = (),
    ) -> Self:
        """Return a platform with these logins. `trust` are the CAs of its certificates (PEM), None without TLS.

        `elsewhere` are the nodes on other machines.
        """
        trusted: dict[str, pulumi.Input[str]] = {} if trust is None else {"ca_certificate": trust}
        broker = {**broker_inside(tls=trust is not None, elsewhere=elsewhere), **trusted}
        dsns = {"registry_dsn": _on_network(registry.dsn), "signup_dsn": _on_network(registry.signup_dsn)}
        return cls(
            outputs={**logins, **dsns, **broker},
            broker=broker,
            reader_dsn=None if registry.reader_dsn is None else _on_network(registry.reader_dsn),
            backup_dsn=None if registry.backup_dsn is None else _on_network(registry.backup_dsn),
            trust_files={} if trust is None else {CA_FILE: trust},
        )


@dataclass(frozen=True, kw_only=True)
class NodeInside:
    """A node as containers on the broker's network reach it: by its name, on another machine by its address.

    `name` is in its certificate, where it has one.
    """

    name: str
    host: str
    amqp_port: int
    management_port: int
    metrics_port: int = 0

    @property
    def amqp(self) -> str:
        return host_port(self.host, self.amqp_port)


def nodes_inside(settings: PlatformSettings) -> Sequence[NodeInside]:
    """Return a platform's nodes, in order."""
    listeners, first = listeners_of(settings.tls), settings.nodes.first
    inside = {"amqp_port": listeners.amqp, "management_port": listeners.management, "metrics_port": listeners.metrics}
    return [
        NodeInside(name=name, host=name, **inside)
        if node.docker == first.docker
        else NodeInside(
            name=name,
            host=node.address,
            amqp_port=node.amqp_port,
            management_port=node.management_port,
            metrics_port=node.metrics_port,
        )
        for node, name in zip(settings.nodes, settings.nodes.inside, strict=True)
    ]


def metrics_targets(nodes: Sequence[NodeInside]) -> Sequence[str]:
    """Return HOST:PORT of the nodes' metrics."""
    return [host_port(node.host, node.metrics_port) for node in nodes]


def broker_inside(*, tls: bool, elsewhere: Sequence[Node] = ()) -> Mapping[str, Any]:
    """Return the outputs with the broker's address on its network, and with those of its nodes on other machines."""
    if not tls:
        return {"management_url": "http://rabbitmq:15672", "amqp_host": "rabbitmq", "amqp_port": 5672}
    url = "https://rabbitmq:15671"
    return {
        "management_url": url,
        "amqp_host": "rabbitmq",
        "amqp_port": 5671,
        "amqp_addresses": ["rabbitmq:5671", *(node.amqp for node in elsewhere)],
        **({"management_urls": [url, *(node.management_url for node in elsewhere)]} if elsewhere else {}),
    }


def metrics_inside(*, tls: bool) -> str:
    """Return the URL of the broker's metrics on its network."""
    return "https://rabbitmq:15691/metrics" if tls else "http://rabbitmq:15692/metrics"


def amqp_inside(uri: str) -> str:
    """Return the URI of an AMQP connection on the broker's network."""
    inside = broker_inside(tls=uri.startswith("amqps:"))
    return reached_at(uri, inside["amqp_host"], inside["amqp_port"])


def reached_at(uri: str, host: str, port: int) -> str:
    """Return a URI with another host and port, and the same login."""
    parts = urlsplit(uri)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}{host_port(host, port)}").geturl()


def _on_network(dsn: pulumi.Output[str]) -> pulumi.Output[str]:
    def moved(known: str) -> str:
        address, query, _ = reached_at(known, "postgres", PORT).partition("?")
        return f"{address}{verified(CA_FILE)}" if query else address

    return dsn.apply(moved)
