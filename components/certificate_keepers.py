"""CertificateKeepers: a keeper of certificates on each machine of a platform, for the services there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker as docker

from components.broker_cluster import BrokerCluster
from components.broker_listeners import ENCRYPTED
from components.certificate_authorities import CertificateAuthorities
from components.certificate_keeper import ROLE, CertificateKeeper, CertificateKeeperArgs, Place
from components.containers import certificate_volume, container_name
from components.docker_daemons import Daemons, on_machine
from components.node_settings import Node, NodeSettings
from components.postgres import PORT, PostgresContainer
from components.registry import DATABASE
from components.settings import PlatformSettings
from components.signup_service import PORT as WEB_PORT


@dataclass(frozen=True, kw_only=True)
class CertificateKeepersArgs:
    """The platform's settings, its authorities, and the services that wait for their certificates."""

    settings: PlatformSettings
    authorities: CertificateAuthorities
    broker: BrokerCluster
    server: PostgresContainer
    daemons: Daemons


class CertificateKeepers(pulumi.ComponentResource):
    """The keepers, which start beside the services. All that is not of one node is on the first machine.

    `password` is that of the first one's role in the database, and `web` the volume for the certificate of the signup
    service, None where it does not run.
    """

    password: pulumi.Output[str] | None
    web: docker.Volume | None = None

    def __init__(self, name: str, args: CertificateKeepersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:CertificateKeepers", name, None, opts)
        self._args, nodes = args, args.settings.nodes
        if args.settings.product.signup:
            self.web = certificate_volume(self, f"{name}-web", container_name("web"))
        networks = [args.broker.networks[0], args.server.network]
        first = self._keeper(f"{name}-1", nodes.first, self._on_first(nodes), networks, f"postgres:{PORT}/{DATABASE}")
        self.password = first.password
        for node in nodes.elsewhere:
            network = args.broker.networks[node.number - 1]
            self._keeper(f"{name}-{node.number}", node, [self._place(node)], [network])
        self.register_outputs({})

    def _keeper(
        self, name: str, node: Node, places: Iterable[Place], networks: Iterable[docker.Network], registry: str = ""
    ) -> CertificateKeeper:
        """Run the keeper on a node's machine: the certificates are in volumes there."""
        args = CertificateKeeperArgs(
            settings=self._args.settings,
            authorities=self._args.authorities,
            places=list(places),
            networks=list(networks),
            registry=registry,
            role=_role(node),
        )
        child = pulumi.ResourceOptions(parent=self)
        return CertificateKeeper(
            name, args, pulumi.ResourceOptions.merge(child, on_machine(self._args.daemons, node.number))
        )

    def _on_first(self, nodes: NodeSettings) -> list[Place]:
        places = [self._place(node) for node in nodes if node not in nodes.elsewhere]
        certificate = self._args.server.certificate
        places.append(Place(role="postgres", volume=certificate, host="postgres", port=PORT, starttls="postgres"))
        if self.web:
            places.append(Place(role="web", volume=self.web, host="web", port=WEB_PORT, public=True))
        return places

    def _place(self, node: Node) -> Place:
        index = node.number - 1
        host, volume = self._args.settings.nodes.inside[index], self._args.broker.certificates[index]
        return Place(role=node.role, volume=volume, host=host, port=ENCRYPTED.amqp, public=True)


def keepers(nodes: NodeSettings) -> dict[str, Any]:
    """Return the stack output with the keepers' containers, where there are several."""
    machines = [nodes.first, *nodes.elsewhere]
    known = [{"container": container_name(_role(node)), "docker": node.docker} for node in machines]
    return {"certificate_keepers": known} if nodes.elsewhere else {}


def _role(node: Node) -> str:
    return ROLE if node.number == 1 else f"{ROLE}-{node.number}"
