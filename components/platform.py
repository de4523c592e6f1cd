"""Platform: the broker and the registry of tenants, in containers of this stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_random as random

from components.broker import BrokerContainer, BrokerContainerArgs
from components.guard import Guard
from components.postgres import PostgresContainer, PostgresContainerArgs
from components.previous_run import LAYOUT, PreviousRun
from components.registry import Registry, RegistryArgs
from components.registry_check import answering
from components.settings import PlatformSettings
from kryonix.rabbitmq.counts import BrokerAccess
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
    administration: dict[str, Any]
    """Stack outputs for operators and for other stacks."""

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Platform", name, None, opts)
        child, settings = pulumi.ResourceOptions(parent=self), args.settings
        secret = random.RandomPassword(f"{name}-admin", length=PASSWORD_LENGTH, special=False, opts=child)
        asked = args.guard.before_changes(settings.access(secret.result))
        after = pulumi.ResourceOptions(parent=self, depends_on=[asked.apply(lambda _: secret)])
        ignored = self._kept(args.previous)
        broker = self._broker(name, settings, asked, ignored, after)
        server = self._server(name, settings, ignored, after)
        registry = self._registry(name, settings, server, after)
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
        # A platform's only: the outputs of a tenant's stack contain no administrator.
        self.administration = {
            "registry_dsn": pulumi.Output.secret(self.registry_dsn),
            "signup_dsn": self.signup_dsn,
            "admin_username": ADMIN_USER,
            "admin_password": pulumi.Output.secret(secret.result),
            "layout": LAYOUT,
        }
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
    def _kept(previous: PreviousRun) -> list[str]:
        """Return the container inputs to leave unchanged: all of them in a stack of an older layout."""
        if not previous.has_older_layout:
            return []
        pulumi.log.warn(
            "an older version made this stack, so this run leaves its containers as they are: replaced now, they would "
            "take every queue along. Run `up` once more to apply their settings, before you change those"
        )
        return ["*"]

    @staticmethod
    def _broker(
        name: str,
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
        return BrokerContainer(f"{name}-rabbitmq", args, _once_named("rabbitmq", opts))

    @staticmethod
    def _server(
        name: str, settings: PlatformSettings, ignored: list[str], opts: pulumi.ResourceOptions
    ) -> PostgresContainer:
        args = PostgresContainerArgs(
            image=settings.postgres_image,
            address=settings.address,
            port=settings.registry_port,
            ignore_changes=ignored,
        )
        return PostgresContainer(f"{name}-postgres", args, _once_named("postgres", opts))

    @staticmethod
    def _registry(
        name: str, settings: PlatformSettings, server: PostgresContainer, opts: pulumi.ResourceOptions
    ) -> Registry:
        args = RegistryArgs(
            host=settings.local_host,
            port=settings.registry_port,
            username=server.username,
            password=server.password,
            deleted_with=server.volume,
        )
        running = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[server.container]))
        return Registry(f"{name}-registry", args, _once_named("registry", running))


def _once_named(name: str, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """Let a component take over the state of an older version's, which did not name it after its parent."""
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
