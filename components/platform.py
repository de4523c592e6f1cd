"""Platform: the broker and the registry that tenants are made on, in containers that this stack makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_random as random

from components.broker import BrokerContainer, BrokerContainerArgs
from components.guard import Guard
from components.management import BrokerAccess
from components.postgres import PostgresContainer, PostgresContainerArgs
from components.registry import Registry, RegistryArgs
from components.registry_check import answering
from components.settings import PlatformSettings
from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.naming import ADMIN_USER

__all__ = ["Platform", "PlatformArgs"]


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """How the platform runs, and the guard that is asked before it changes.

    `keep_containers` leaves both containers as they are, whatever the settings say.
    """

    settings: PlatformSettings
    guard: Guard
    keep_containers: bool = False


class Platform(pulumi.ComponentResource):
    """A broker and a registry in containers.

    What it gives out is plain values, known before a container is: what depends on a container's id would be replaced
    together with it, queues and their messages too. What needs the services waits for `ready` by `depends_on`.
    """

    access: pulumi.Output[BrokerAccess]
    ready: Sequence[pulumi.Input[pulumi.Resource]]
    data: pulumi.Resource
    endpoint: str
    username: str
    management_url: pulumi.Output[str]
    amqp_host: pulumi.Output[str]
    amqp_port: pulumi.Output[int]
    registry_dsn: pulumi.Output[str]
    signup_dsn: pulumi.Output[str]

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Platform", name, None, opts)
        child, settings = pulumi.ResourceOptions(parent=self), args.settings
        secret = random.RandomPassword(f"{name}-admin", length=PASSWORD_LENGTH, special=False, opts=child)
        asked = args.guard.before_changes(settings.access(secret.result))
        after = pulumi.ResourceOptions(parent=self, depends_on=[asked.apply(lambda _: secret)])
        ignored = ["*"] if args.keep_containers else []
        broker = self._broker(settings, asked, ignored, after)
        server = self._server(settings, ignored, after)
        registry = self._registry(settings, server, after)
        self.access, self.registry_dsn, self.signup_dsn = asked, registry.dsn, registry.signup_dsn
        running = pulumi.Output.all(broker.container.id, asked).apply(lambda both: both[1])
        answered = args.guard.before_tenants(running).apply(lambda _: broker.container)
        listening = pulumi.Output.all(server.container.id, registry.dsn).apply(lambda both: str(both[1]))
        registered = answering(listening).apply(lambda _: server.container)
        self.data = broker.volume
        self.ready = [broker.container, answered, registry, registered]
        self.endpoint, self.username = settings.local_management_url, ADMIN_USER
        host = settings.advertised_host
        self.management_url = pulumi.Output.from_input(f"http://{host}:{settings.management_port}")
        self.amqp_host = pulumi.Output.from_input(host)
        self.amqp_port = pulumi.Output.from_input(settings.amqp_port)
        self.register_outputs(
            {
                "management_url": self.management_url,
                "amqp_host": self.amqp_host,
                "amqp_port": self.amqp_port,
                "registry_dsn": self.registry_dsn,
                "signup_dsn": self.signup_dsn,
                "admin_username": ADMIN_USER,
                "admin_password": secret.result,
            }
        )

    @staticmethod
    def _broker(
        settings: PlatformSettings,
        asked: pulumi.Output[BrokerAccess],
        ignored: list[str],
        opts: pulumi.ResourceOptions,
    ) -> BrokerContainer:
        args = BrokerContainerArgs(
            image=settings.broker_image,
            admin_password=asked.apply(lambda access: access.password),
            address=settings.address,
            amqp_port=settings.amqp_port,
            management_port=settings.management_port,
            metrics=settings.metrics,
            domain=settings.domain,
            memory_mb=settings.broker_memory_mb,
            ignore_changes=ignored,
        )
        return BrokerContainer("rabbitmq", args, opts)

    @staticmethod
    def _server(settings: PlatformSettings, ignored: list[str], opts: pulumi.ResourceOptions) -> PostgresContainer:
        args = PostgresContainerArgs(
            image=settings.postgres_image,
            address=settings.address,
            port=settings.registry_port,
            ignore_changes=ignored,
        )
        return PostgresContainer("postgres", args, opts)

    @staticmethod
    def _registry(settings: PlatformSettings, server: PostgresContainer, opts: pulumi.ResourceOptions) -> Registry:
        args = RegistryArgs(
            host=settings.local_host,
            port=settings.registry_port,
            username=server.username,
            password=server.password,
            deleted_with=server.volume,
        )
        running = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[server.container]))
        return Registry("registry", args, running)
