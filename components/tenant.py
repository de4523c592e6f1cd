"""TenantMessaging: everything one customer has on the broker and in the registry."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.errors import InvalidStack
from components.management import BrokerAccess
from components.routing import Routing, RoutingArgs
from components.safeguards import Safeguards, SafeguardsArgs
from components.tenant_record import TenantRecord, TenantRecordArgs
from kryonix.topology.credentials import PASSWORD_LENGTH, rabbitmq_hash
from kryonix.topology.expansion import Topology
from kryonix.topology.ownership import description

__all__ = ["TenantMessaging", "TenantMessagingArgs"]


@dataclass(frozen=True, kw_only=True)
class TenantMessagingArgs:
    """A tenant's expansion, and the platform it is made on."""

    topology: Topology
    access: pulumi.Output[BrokerAccess]
    registry_dsn: pulumi.Input[str]
    amqp_host: pulumi.Input[str]
    amqp_port: pulumi.Input[int]
    deletion_protection: bool = True
    allow_delete: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        queues, allowed = len(self.topology.queues), self.topology.limits.max_queues
        if queues > allowed:
            tenant = self.topology.tenant
            raise InvalidStack(
                f"tenant {tenant.id!r}: {queues} queues do not fit the {allowed} of the plan {tenant.plan!r}. "
                "Choose a larger plan or fewer modules"
            )


class TenantMessaging(pulumi.ComponentResource):
    """A tenant's vhost, user, permissions, exchanges, queues, bindings, policies, limits and registry rows."""

    vhost: pulumi.Output[str]
    username: pulumi.Output[str]
    password: pulumi.Output[str]
    amqp_uri: pulumi.Output[str]
    safeguards: pulumi.Resource

    def __init__(self, name: str, args: TenantMessagingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:TenantMessaging", name, None, opts)
        self._name, self._args = name, args
        vhost = self._vhost()
        within = pulumi.ResourceOptions(parent=self, deleted_with=vhost)
        admin = rabbitmq.Permissions(
            f"{name}/admin",
            user=args.access.apply(lambda access: access.username),
            vhost=vhost.name,
            permissions={"configure": ".*", "write": ".*", "read": ".*"},
            opts=within,
        )
        password = random.RandomPassword(
            f"{name}/password", length=PASSWORD_LENGTH, special=False, opts=pulumi.ResourceOptions(parent=self)
        )
        user = rabbitmq.User(
            f"{name}/user",
            name=args.topology.user,
            password=password.result,
            tags=["management"],
            opts=pulumi.ResourceOptions(parent=self),
        )
        permissions = self._permissions(user, admin, within)
        routing = Routing(name, RoutingArgs(topology=args.topology, vhost=admin.vhost, deleted_with=vhost), within)
        record = self._record(user, password)
        self.safeguards = self._safeguards(user, vhost, [*routing.leaves, permissions, record])
        self.vhost, self.username, self.password = vhost.name, user.name, password.result
        self.amqp_uri = pulumi.Output.secret(
            pulumi.Output.format(
                "amqp://{0}:{1}@{2}:{3}/{4}",
                user.name,
                password.result,
                args.amqp_host,
                args.amqp_port,
                vhost.name.apply(lambda vhost_name: vhost_name.replace("/", "%2F")),
            )
        )
        self.register_outputs(self.summary())

    def summary(self) -> dict[str, pulumi.Input[object]]:
        """What a stack says of a tenant in its outputs."""
        topology = self._args.topology
        return {
            "vhost": self.vhost,
            "username": self.username,
            "password": self.password,
            "amqp_uri": self.amqp_uri,
            "plan": topology.tenant.plan,
            "modules": list(topology.tenant.modules),
            "queues": len(topology.queues),
        }

    def _vhost(self) -> rabbitmq.VHost:
        topology = self._args.topology
        return rabbitmq.VHost(
            f"{self._name}/vhost",
            name=topology.vhost,
            description=description(topology.tenant.id, pulumi.get_stack()),
            default_queue_type="quorum",
            max_connections=str(topology.max_connections),
            max_queues=str(topology.limits.max_queues),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _permissions(
        self, user: rabbitmq.User, admin: rabbitmq.Permissions, within: pulumi.ResourceOptions
    ) -> rabbitmq.Permissions:
        patterns = self._args.topology.permissions
        return rabbitmq.Permissions(
            f"{self._name}/user",
            user=user.name,
            vhost=admin.vhost,
            permissions={"configure": patterns.configure, "write": patterns.write, "read": patterns.read},
            opts=within,
        )

    def _record(self, user: rabbitmq.User, password: random.RandomPassword) -> TenantRecord:
        args = TenantRecordArgs(
            registry_dsn=self._args.registry_dsn,
            tenant=self._args.topology.tenant,
            username=user.name,
            password_hash=pulumi.Output.all(user.name, password.result).apply(lambda both: rabbitmq_hash(*both)),
        )
        return TenantRecord(f"{self._name}/record", args, pulumi.ResourceOptions(parent=self))

    def _safeguards(self, user: rabbitmq.User, vhost: rabbitmq.VHost, before: list[pulumi.Resource]) -> Safeguards:
        """Last of all: what it depends on is removed only after it has agreed to go."""
        limits = self._args.topology.limits
        args = SafeguardsArgs(
            access=self._args.access,
            vhost=vhost.name,
            user=user.name,
            max_connections=limits.max_connections,
            max_channels=limits.max_channels,
            protected=self._args.deletion_protection,
            allow_delete=self._args.allow_delete,
        )
        opts = pulumi.ResourceOptions(parent=self, depends_on=before)
        return Safeguards(f"{self._name}/safeguards", args, opts)
