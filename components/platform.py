"""Platform: the broker and the registry of tenants, in containers of this stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.broker import inputs_digest
from components.broker_cluster import BrokerCluster, BrokerClusterArgs
from components.certificate_authorities import CertificateAuthorities
from components.certificate_keepers import CertificateKeepers, CertificateKeepersArgs, keepers
from components.containers import ServiceArgs
from components.docker_daemons import Daemons
from components.existing_platform import AUTHORITY, PlatformOutputs
from components.guard import Guard
from components.management import endpoint_of
from components.platform_inside import PlatformInside
from components.postgres import PostgresContainer
from components.previous_run import LAYOUT, PreviousRun
from components.registry import Registry, RegistryArgs
from components.registry_check import answering
from components.roll import Roll
from components.settings import PlatformSettings
from kryonix.rabbitmq.counts import BrokerAccess
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
    inside: PlatformInside
    """The outputs as a container on both networks has them: these services have another address there."""
    broker_network: docker.Network
    registry_network: docker.Network
    nodes_trust: pulumi.Output[str] | None
    """The CAs that issue the nodes' certificates (PEM); None if others do, and without TLS."""
    web_certificate: docker.Volume | None
    """The volume for the certificate of the signup service."""

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        settings, previous, roll = args.settings, args.previous.outputs, Roll.load()
        digests = {node.number: inputs_digest(node, settings) for node in settings.nodes}
        kept = roll.kept(pulumi.get_stack(), digests, previous)
        super().__init__("kryonix:messaging:Platform", name, None, opts)
        self._name, self._args, child = name, args, pulumi.ResourceOptions(parent=self)
        warn_of_plain_text(settings)
        secret = random.RandomPassword(f"{name}-admin", length=PASSWORD_LENGTH, special=False, opts=child)
        authorities = CertificateAuthorities(f"{name}-ca", settings.tls, child) if settings.tls.on else None
        trust = authorities.trust if authorities else None
        asked = args.guard.before_changes(settings.access(secret.result, trust or ""))
        self._after = pulumi.ResourceOptions(parent=self, depends_on=[asked.apply(lambda _: secret)])
        ignored = self._kept(args.previous)
        nodes = BrokerClusterArgs(
            settings=settings,
            admin_password=asked.apply(lambda access: access.password),
            daemons=args.daemons,
            trust=trust,
            ignore_changes=ignored,
            kept=kept,
            outdated=[number for number, digest in kept.items() if digest != digests[number]],
            growing_from=roll.growing_from(previous),
        )
        broker = BrokerCluster(f"{name}-rabbitmq", nodes, self._after)
        service = ServiceArgs(settings=settings, ignore_changes=ignored)
        server = PostgresContainer(f"{name}-postgres", service, _once_named("postgres", self._after))
        certificates = self._keepers(authorities, broker, server)
        registry = self._registry(server, trust, certificates)
        # The broker trusts the CAs of certificates that others make, and those may issue any common name.
        clients = authorities if authorities and not settings.tls.certificate_dir else None
        issuing: dict[str, pulumi.Input[Any]] = {AUTHORITY: clients.of_clients} if clients else {}
        self.outputs = self._outputs(asked, broker, registry, self._ready(asked, broker, server, registry), issuing)
        logins: dict[str, pulumi.Input[str]] = {
            "registry_dsn": pulumi.Output.secret(registry.dsn),
            "signup_dsn": registry.signup_dsn,
            "admin_username": ADMIN_USER,
            "admin_password": pulumi.Output.secret(secret.result),
        }
        # A platform's only: the outputs of a tenant's stack contain no administrator.
        self.administration = {**logins, **issuing, "layout": LAYOUT, **_nodes(settings, {**digests, **kept})}
        self.inside = PlatformInside.of(registry, {**logins, **issuing}, trust, settings.nodes.elsewhere)
        self.broker_network, self.registry_network = broker.networks[0], server.network
        self.nodes_trust = clients.own if clients else None
        self.web_certificate = certificates.web if certificates else None
        addresses = {key: getattr(self.outputs, key) for key in ("management_url", "amqp_host", "amqp_port")}
        self.register_outputs({**addresses, **logins})

    def _keepers(
        self, authorities: CertificateAuthorities | None, broker: BrokerCluster, server: PostgresContainer
    ) -> CertificateKeepers | None:
        if authorities is None:
            return None
        args = CertificateKeepersArgs(
            settings=self._args.settings,
            authorities=authorities,
            broker=broker,
            server=server,
            daemons=self._args.daemons,
        )
        return CertificateKeepers(f"{self._name}-keepers", args, self._after)

    def _registry(
        self, server: PostgresContainer, trust: pulumi.Output[str] | None, certificates: CertificateKeepers | None
    ) -> Registry:
        args = RegistryArgs(
            settings=self._args.settings,
            server=server,
            trust=trust,
            keeper_password=certificates.password if certificates else None,
        )
        running = pulumi.ResourceOptions(depends_on=[server.container])
        opts = _once_named("registry", pulumi.ResourceOptions.merge(self._after, running))
        return Registry(f"{self._name}-registry", args, opts)

    def _ready(
        self, asked: pulumi.Output[BrokerAccess], broker: BrokerCluster, server: PostgresContainer, registry: Registry
    ) -> list[pulumi.Input[pulumi.Resource]]:
        """Return what is there once the broker has been asked again, and the registry answers."""
        running = pulumi.Output.all(broker.formed.id, asked).apply(lambda both: both[1])
        answered = self._args.guard.before_tenants(running).apply(lambda _: broker.formed)
        listening = pulumi.Output.all(server.container.id, registry.dsn).apply(lambda both: str(both[1]))
        registered = answering(listening).apply(lambda _: server.container)
        return [broker.formed, answered, registry, registered]

    def _outputs(
        self,
        asked: pulumi.Output[BrokerAccess],
        broker: BrokerCluster,
        registry: Registry,
        ready: Sequence[pulumi.Input[pulumi.Resource]],
        issuing: Mapping[str, pulumi.Input[Any]],
    ) -> PlatformOutputs:
        settings = self._args.settings
        endpoint: pulumi.Input[str] = settings.nodes.first.local_management_url
        if settings.nodes.clustered:
            endpoint = pulumi.Output.unsecret(asked.apply(endpoint_of))
        return PlatformOutputs(
            access=asked,
            endpoint=endpoint,
            username=ADMIN_USER,
            management_url=pulumi.Output.from_input(settings.nodes.first.management_url),
            amqp_host=pulumi.Output.from_input(settings.advertised_host),
            amqp_port=pulumi.Output.from_input(settings.amqp_port),
            registry_dsn=registry.dsn,
            nodes={
                "management_urls": [node.management_url for node in settings.nodes],
                "amqp_addresses": [node.amqp for node in settings.nodes],
            },
            authority=issuing.get(AUTHORITY),
            ready=ready,
            data=broker.volume,
        )

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


def warn_of_plain_text(settings: PlatformSettings) -> None:
    """Warn of all addresses at which other machines reach services without TLS, and say what to do."""
    if not settings.in_plain_text:
        return
    listed = ", ".join(f"kryonix:{key} {address}" for key, address in settings.in_plain_text.items())
    pulumi.log.warn(
        f'kryonix:tls is "false", and other machines reach services in plain text ({listed}): passwords, API keys and '
        'messages cross the network unencrypted. Set kryonix:tls to "true" (docs/platform.md, Turn TLS on), or listen '
        "on 127.0.0.1 behind a proxy that ends TLS"
    )


def _nodes(settings: PlatformSettings, digests: Mapping[int, str]) -> dict[str, Any]:
    """Return the outputs of the broker's nodes. `digests` are those of the inputs that their containers have."""
    return {
        "broker_nodes": [
            {
                "name": node.name,
                "container": node.container,
                "docker": node.docker,
                "amqp": node.amqp,
                "management": node.management_url,
                "image": settings.broker_image,
                "digest": digests[node.number],
                **settings.hosts.machine(node.number),
            }
            for node in settings.nodes
        ],
        **keepers(settings.nodes),
    }


def _once_named(name: str, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Let a component take over the state of an older version's, which did not name it after its parent."""
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
