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
from components.containers import ServiceArgs
from components.existing_platform import PlatformOutputs
from components.guard import Guard
from components.postgres import PostgresContainer
from components.previous_run import LAYOUT, PreviousRun
from components.product import BROKER_INSIDE, reached_at
from components.registry import Registry, RegistryArgs
from components.registry_check import answering
from components.roll import Roll
from components.settings import PlatformSettings
from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.naming import ADMIN_USER


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """How the platform runs, the guard to ask before it changes, and the previous run of its stack."""

    settings: PlatformSettings
    guard: Guard
    previous: PreviousRun


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

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        settings = args.settings
        digests = {node.number: inputs_digest(node, settings) for node in settings.nodes}
        kept = Roll.load().kept(pulumi.get_stack(), digests, args.previous.outputs)
        super().__init__("kryonix:messaging:Platform", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        secret = random.RandomPassword(f"{name}-admin", length=PASSWORD_LENGTH, special=False, opts=child)
        asked = args.guard.before_changes(settings.access(secret.result))
        after = pulumi.ResourceOptions(parent=self, depends_on=[asked.apply(lambda _: secret)])
        ignored = self._kept(args.previous)
        password = asked.apply(lambda access: access.password)
        broker = BrokerCluster(
            f"{name}-rabbitmq",
            BrokerClusterArgs(settings=settings, admin_password=password, ignore_changes=ignored, kept=kept),
            after,
        )
        server = PostgresContainer(
            f"{name}-postgres",
            ServiceArgs(settings=settings, ignore_changes=ignored),
            _once_named("postgres", after),
        )
        registry = Registry(
            f"{name}-registry",
            RegistryArgs(settings=settings, server=server),
            _once_named(
                "registry", pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[server.container]))
            ),
        )
        running = pulumi.Output.all(broker.formed.id, asked).apply(lambda both: both[1])
        answered = args.guard.before_tenants(running).apply(lambda _: broker.formed)
        listening = pulumi.Output.all(server.container.id, registry.dsn).apply(lambda both: str(both[1]))
        registered = answering(listening).apply(lambda _: server.container)
        host = settings.advertised_host
        self.outputs = PlatformOutputs(
            access=asked,
            endpoint=settings.endpoint,
            username=ADMIN_USER,
            management_url=pulumi.Output.from_input(settings.nodes.first.management_url),
            amqp_host=pulumi.Output.from_input(host),
            amqp_port=pulumi.Output.from_input(settings.amqp_port),
            registry_dsn=registry.dsn,
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
        self.administration = {**logins, "layout": LAYOUT, **_nodes(settings, {**digests, **kept})}
        self.broker_network, self.registry_network = broker.network, server.network
        self.reader_dsn = None if registry.reader_dsn is None else registry.reader_dsn.apply(_on_network)
        self.backup_dsn = None if registry.backup_dsn is None else registry.backup_dsn.apply(_on_network)
        self.inside = {
            **logins,
            "registry_dsn": registry.dsn.apply(_on_network),
            "signup_dsn": registry.signup_dsn.apply(_on_network),
            **BROKER_INSIDE,
        }
        addresses = {key: getattr(self.outputs, key) for key in ("management_url", "amqp_host", "amqp_port")}
        self.register_outputs({**addresses, **logins})

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
    }


def _on_network(dsn: str) -> str:
    return reached_at(dsn, "postgres", 5432)


def _once_named(name: str, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Let a component take over the state of an older version's, which did not name it after its parent."""
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
