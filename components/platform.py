"""Platform: the broker and the registry of tenants, in containers of this stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.broker import inputs_digest
from components.broker_cluster import BrokerCluster, BrokerClusterArgs
from components.broker_listeners import ENCRYPTED
from components.certificate_authorities import CertificateAuthorities
from components.certificate_keeper import CertificateKeeper, CertificateKeeperArgs, Place, keeper_role
from components.containers import ServiceArgs, certificate_volume, container_name
from components.docker_daemons import Daemons, on_machine
from components.existing_platform import AUTHORITY, PlatformOutputs
from components.guard import Guard
from components.management import endpoint_of
from components.node_settings import Node
from components.postgres import PORT, PostgresContainer
from components.previous_run import LAYOUT, PreviousRun
from components.product import broker_inside, reached_at
from components.product_container import CA_FILE
from components.registry import DATABASE, Registry, RegistryArgs, verified
from components.registry_check import answering
from components.roll import Roll
from components.settings import PlatformSettings
from components.signup_service import PORT as WEB
from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.naming import ADMIN_USER


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """How the platform runs, the guard to ask before it changes, and the previous run of its stack.

    `daemons` are those of the nodes' machines. All that is not of one node runs on the first.
    """

    settings: PlatformSettings
    guard: Guard
    previous: PreviousRun
    daemons: Daemons = ()


class Platform(pulumi.ComponentResource):
    """A broker and a registry in containers.

    Its outputs are plain values, known before the containers exist: a resource that depends on a container's id would
    be replaced together with it, queues and messages included. Resources that need the services depend on `ready`.
    """

    outputs: PlatformOutputs
    administration: dict[str, Any]
    """Stack outputs for operators and for other stacks."""
    inside: dict[str, pulumi.Input[Any]]
    """The outputs as a container on both networks has them: these services have another address there."""
    reader_dsn: pulumi.Output[str] | None
    """The DSN of the exporter's role there."""
    backup_dsn: pulumi.Output[str] | None
    """The DSN of the backups' role there."""
    broker_network: docker.Network
    registry_network: docker.Network
    broker_inside: dict[str, pulumi.Input[Any]]
    """The part of `inside` with the broker's address."""
    nodes_trust: pulumi.Output[str] | None
    """The CAs that issue the nodes' certificates (PEM); None if others do, and without TLS."""
    trust_files: dict[str, pulumi.Input[str]]
    """The file with the CAs to trust, for containers on these networks; none without TLS."""
    web_certificate: docker.Volume | None = None
    """The volume for the certificate of the signup service."""

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        settings = args.settings
        digests = {node.number: inputs_digest(node, settings) for node in settings.nodes}
        roll = Roll.load()
        kept = roll.kept(pulumi.get_stack(), digests, args.previous.outputs)
        super().__init__("kryonix:messaging:Platform", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        secret = random.RandomPassword(f"{name}-admin", length=PASSWORD_LENGTH, special=False, opts=child)
        authorities = CertificateAuthorities(f"{name}-ca", settings.tls, child) if settings.tls.on else None
        trust = authorities.trust if authorities else None
        asked = args.guard.before_changes(settings.access(secret.result, trust or ""))
        after = pulumi.ResourceOptions(parent=self, depends_on=[asked.apply(lambda _: secret)])
        ignored = self._kept(args.previous)
        password = asked.apply(lambda access: access.password)
        broker = BrokerCluster(
            f"{name}-rabbitmq",
            BrokerClusterArgs(
                settings=settings,
                admin_password=password,
                daemons=args.daemons,
                trust=trust,
                ignore_changes=ignored,
                kept=kept,
                growing_from=roll.growing_from(args.previous.outputs),
            ),
            after,
        )
        server = PostgresContainer(
            f"{name}-postgres",
            ServiceArgs(settings=settings, ignore_changes=ignored),
            _once_named("postgres", after),
        )
        keeper = None
        if authorities:
            keeper = self._keeper(f"{name}-keeper", settings, authorities, broker, server, after)
            self._keepers(f"{name}-keeper", args, authorities, broker, after)
        registry = Registry(
            f"{name}-registry",
            RegistryArgs(
                settings=settings, server=server, trust=trust, keeper_password=keeper.password if keeper else None
            ),
            _once_named(
                "registry", pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[server.container]))
            ),
        )
        running = pulumi.Output.all(broker.formed.id, asked).apply(lambda both: both[1])
        answered = args.guard.before_tenants(running).apply(lambda _: broker.formed)
        listening = pulumi.Output.all(server.container.id, registry.dsn).apply(lambda both: str(both[1]))
        registered = answering(listening).apply(lambda _: server.container)
        endpoint: pulumi.Input[str] = settings.nodes.first.local_management_url
        if settings.nodes.clustered:
            endpoint = pulumi.Output.unsecret(asked.apply(endpoint_of))
        host = settings.advertised_host
        # The broker trusts the CAs of certificates that others make, and those may issue any common name.
        clients = authorities if authorities and not settings.tls.certificate_dir else None
        issuing: dict[str, pulumi.Input[Any]] = {AUTHORITY: clients.of_clients} if clients else {}
        self.outputs = PlatformOutputs(
            access=asked,
            endpoint=endpoint,
            username=ADMIN_USER,
            management_url=pulumi.Output.from_input(settings.nodes.first.management_url),
            amqp_host=pulumi.Output.from_input(host),
            amqp_port=pulumi.Output.from_input(settings.amqp_port),
            registry_dsn=registry.dsn,
            authority=issuing.get(AUTHORITY),
            ready=[broker.formed, answered, registry, registered],
            data=broker.volume,
        )
        logins: dict[str, pulumi.Input[str]] = {
            "registry_dsn": pulumi.Output.secret(registry.dsn),
            "signup_dsn": registry.signup_dsn,
            "admin_username": ADMIN_USER,
            "admin_password": pulumi.Output.secret(secret.result),
        }
        # A platform's only: the outputs of a tenant's stack contain no administrator.
        self.administration = {**logins, **issuing, "layout": LAYOUT, **_nodes(settings, {**digests, **kept})}
        self.broker_network, self.registry_network = broker.networks[0], server.network
        self.nodes_trust = trust if clients else None
        self.trust_files = {} if trust is None else {CA_FILE: trust}
        self.broker_inside = {
            **broker_inside(tls=settings.tls.on),
            **({} if trust is None else {"ca_certificate": trust}),
        }
        self.reader_dsn = None if registry.reader_dsn is None else registry.reader_dsn.apply(_on_network)
        self.backup_dsn = None if registry.backup_dsn is None else registry.backup_dsn.apply(_on_network)
        self.inside = {
            **logins,
            **issuing,
            "registry_dsn": registry.dsn.apply(_on_network),
            "signup_dsn": registry.signup_dsn.apply(_on_network),
            **self.broker_inside,
        }
        addresses = {key: getattr(self.outputs, key) for key in ("management_url", "amqp_host", "amqp_port")}
        self.register_outputs({**addresses, **logins})

    def _keeper(
        self,
        name: str,
        settings: PlatformSettings,
        authorities: CertificateAuthorities,
        broker: BrokerCluster,
        server: PostgresContainer,
        opts: pulumi.ResourceOptions,
    ) -> CertificateKeeper:
        """Run the keeper of certificates. It starts beside the services, which wait for theirs."""
        places = [
            _place(node, settings, broker) for node in settings.nodes if node is settings.nodes.first or not node.peers
        ]
        places += [Place(role="postgres", volume=server.certificate, host="postgres", port=PORT, starttls="postgres")]
        if settings.product.signup:
            self.web_certificate = certificate_volume(self, f"{name}-web", container_name("web"))
            places.append(Place(role="web", volume=self.web_certificate, host="web", port=WEB))
        keeper = CertificateKeeperArgs(
            settings=settings,
            authorities=authorities,
            places=places,
            networks=[broker.networks[0], server.network],
            registry=f"postgres:{PORT}/{DATABASE}",
        )
        return CertificateKeeper(name, keeper, opts)

    @staticmethod
    def _keepers(
        name: str,
        args: PlatformArgs,
        authorities: CertificateAuthorities,
        broker: BrokerCluster,
        opts: pulumi.ResourceOptions,
    ) -> None:
        """Run a keeper on each further machine: a certificate is in a volume there."""
        for node in args.settings.nodes.elsewhere:
            keeper = CertificateKeeperArgs(
                settings=args.settings,
                authorities=authorities,
                places=[_place(node, args.settings, broker)],
                networks=[broker.networks[node.number - 1]],
                role=keeper_role(node),
            )
            on = pulumi.ResourceOptions.merge(opts, on_machine(args.daemons, node.number))
            CertificateKeeper(f"{name}-{node.number}", keeper, on)

    @staticmethod
    def on_broker_network(uri: str) -> str:
        """Return the URI of an AMQP connection as containers on the broker's network have it."""
        inside = broker_inside(tls=uri.startswith("amqps:"))
        return reached_at(uri, inside["amqp_host"], inside["amqp_port"])

    @staticmethod
    def _kept(previous: PreviousRun) -> list[str]:
        """Return the container inputs to leave unchanged: all of them in a stack of an older layout."""
        if not previous.has_older_layout:
            return []
        pulumi.log.warn(
            "an older version made this stack, so this run leaves its containers as they are: replaced now, they would "
            "take every queue along. Run `up` once more to apply their settings, before you change those"
        )
        return ["*"]


def _place(node: Node, settings: PlatformSettings, broker: BrokerCluster) -> Place:
    """Return the place of a node's certificate."""
    host, volume = settings.nodes.inside[node.number - 1], broker.certificates[node.number - 1]
    return Place(role=node.role, volume=volume, host=host, port=ENCRYPTED.amqp)


def _nodes(settings: PlatformSettings, digests: Mapping[int, str]) -> dict[str, Any]:
    """Return the outputs of the broker's nodes. `digests` are those of the inputs that their containers have."""
    return {
        "amqp_addresses": [node.amqp for node in settings.nodes],
        "management_urls": [node.management_url for node in settings.nodes],
        "broker_nodes": [
            {
                "name": node.name,
                "container": node.container,
                "docker": node.docker,
                "amqp": node.amqp,
                "management": node.management_url,
                "image": settings.broker_image,
                "digest": digests[node.number],
            }
            for node in settings.nodes
        ],
        **_keepers(settings),
    }


def _keepers(settings: PlatformSettings) -> dict[str, Any]:
    """Return the output of the keepers, where there are several."""
    machines = [settings.nodes.first, *settings.nodes.elsewhere]
    known = [{"container": container_name(keeper_role(node)), "docker": node.docker} for node in machines]
    return {"certificate_keepers": known} if settings.nodes.elsewhere else {}


def _on_network(dsn: str) -> str:
    """Return a DSN as containers on the registry's network have it."""
    address, query, _ = reached_at(dsn, "postgres", PORT).partition("?")
    return f"{address}{verified(CA_FILE)}" if query else address


def _once_named(name: str, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Let a component take over the state of an older version's, which did not name it after its parent."""
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
