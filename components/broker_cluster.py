"""BrokerCluster: the network, the secret and the nodes of a broker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.broker import container_inputs
from components.cluster_formed import ClusterFormed, ClusterFormedArgs, joinable
from components.containers import ServiceArgs, certificate_volume, created, service_network, service_volume
from components.docker_daemons import Daemons
from components.node_settings import Node
from kryonix.topology.credentials import PASSWORD_LENGTH


@dataclass(frozen=True, kw_only=True)
class BrokerClusterArgs(ServiceArgs):
    """A service's arguments, the password of the broker's administrator, and the nodes that stay as they are.

    `kept` are the numbers of those nodes, with the digests of their containers' inputs; `outdated` are those of them
    that have other inputs than this run's. `trust` are the CAs of their certificates, PEM, None without TLS.
    `growing_from` is the number of nodes that exist while others are added, else 0.
    """

    admin_password: pulumi.Output[str]
    daemons: Daemons = ()
    trust: pulumi.Input[str | None] = None
    kept: Mapping[int, str] = field(default_factory=dict)
    outdated: Collection[int] = ()
    growing_from: int = 0


class BrokerCluster(pulumi.ComponentResource):
    """One node, or several that hold each queue together.

    `volume` is the first node's. `formed` is there once all nodes run.
    """

    networks: Sequence[docker.Network]
    """One per node: nodes on one machine share it."""
    volume: docker.Volume
    certificates: Sequence[docker.Volume] = ()
    """One per node; none without TLS."""
    formed: pulumi.CustomResource

    def __init__(self, name: str, args: BrokerClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # Older versions had only one node, and called the component after its container.
        before = [pulumi.Alias(name=was, type_="kryonix:messaging:BrokerContainer") for was in (name, "rabbitmq")]
        aliases = pulumi.ResourceOptions(aliases=before)
        super().__init__("kryonix:messaging:BrokerCluster", name, None, pulumi.ResourceOptions.merge(opts, aliases))
        self._name, self._args, nodes = name, args, args.settings.nodes
        child = pulumi.ResourceOptions(parent=self)
        self._daemons: Sequence[docker.Provider | None] = args.daemons or [None] * len(nodes)
        self.networks = self._connected()
        cookie: pulumi.Output[str] | None = None
        if nodes.clustered:
            secret = random.RandomPassword(f"{name}-cookie", length=PASSWORD_LENGTH, special=False, opts=child)
            cookie = secret.result
        volumes = [self._volume(service_volume, node, "data") for node in nodes]
        if args.settings.tls.on:
            self.certificates = [self._volume(certificate_volume, node, "tls") for node in nodes]
        # None waits for another: the first ones of a new cluster start only once they find each other.
        made: list[tuple[Node, docker.Container]] = []
        after: pulumi.Input[Sequence[pulumi.Resource]] = []
        for node, volume in zip(nodes, volumes, strict=True):
            if made and len(made) == args.growing_from:
                # But new ones must find the cluster that exists: while it restarts, they would form another.
                existing = [container for _, container in made]
                after = joinable(nodes.first, args.admin_password, args.trust, existing)
            made.append((node, self._container(node, volume, cookie, after)))
        self.volume, self.formed = volumes[0], made[0][1]
        if nodes.clustered:
            running = [(node, container.id) for node, container in made]
            formed = ClusterFormedArgs(
                nodes=running, unasked=args.outdated, admin_password=args.admin_password, ca_certificate=args.trust
            )
            self.formed = ClusterFormed(f"{name}-formed", formed, child)
        self.register_outputs({"network_name": self.networks[0].name, "nodes": [node.name for node in nodes]})

    def _named(self, node: Node) -> str:
        return self._name if node.number == 1 else f"{self._name}-{node.number}"

    def _connected(self) -> Sequence[docker.Network]:
        nodes = self._args.settings.nodes
        machines = nodes if self._args.daemons else [nodes.first]
        made = [
            service_network(self, f"{self._named(node)}-network", node.container, daemon)
            for node, daemon in zip(machines, self._daemons, strict=False)
        ]
        return made if self._args.daemons else made * len(nodes)

    def _volume(self, kind: Callable[..., docker.Volume], node: Node, suffix: str) -> docker.Volume:
        return kind(self, f"{self._named(node)}-{suffix}", node.container, self._daemons[node.number - 1])

    def _container(
        self,
        node: Node,
        volume: docker.Volume,
        cookie: pulumi.Output[str] | None,
        after: pulumi.Input[Sequence[pulumi.Resource]],
    ) -> docker.Container:
        args = self._args
        password = args.admin_password
        certificate = self.certificates[node.number - 1] if self.certificates else None
        inputs = container_inputs(
            node,
            args.settings,
            self.networks[node.number - 1],
            volume,
            certificate=certificate,
            password=password,
            cookie=cookie,
        )
        ignored: Sequence[str] = ["*"] if node.number in args.kept else args.ignore_changes
        name = f"{self._named(node)}-container"
        return created(self, name, inputs, ignored, self._daemons[node.number - 1], after)
