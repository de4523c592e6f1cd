"""TenantMessaging: all of one customer's objects on the broker and rows in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.errors import InvalidStack
from components.existing_platform import PlatformOutputs
from components.routing import Routing, RoutingArgs
from components.safeguards import Safeguards, SafeguardsArgs
from components.settings import Settings
from components.tenant_record import TenantRecord, TenantRecordArgs
from components.tenant_user import TenantUser, permit
from kryonix.topology.addresses import host_port
from kryonix.topology.credentials import rabbitmq_hash
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Permissions
from kryonix.topology.ownership import description


@dataclass(frozen=True, kw_only=True)
class TenantMessagingArgs:
    """A tenant's topology, its platform, and the settings of its stack."""

    topology: Topology
    platform: PlatformOutputs
    settings: Settings

    def __post_init__(self) -> None:
        queues, allowed = len(self.topology.queues), self.topology.limits.max_queues
        tenant = self.topology.tenant
        if queues > allowed and tenant.status == "active" and not self.settings.as_sold:
            raise InvalidStack(
                f"tenant {tenant.id!r}: {queues} queues do not fit the {allowed} of the plan {tenant.plan!r}. "
                "Choose a larger plan or fewer modules"
            )


class TenantMessaging(pulumi.ComponentResource):
    """A tenant's vhost, users, permissions, exchanges, queues, bindings, policies, limits and registry rows."""

    vhost: pulumi.Output[str]
    username: pulumi.Output[str]
    password: pulumi.Output[str]
    amqp_uri: pulumi.Output[str]
    safeguards: pulumi.Resource

    def __init__(self, name: str, args: TenantMessagingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:TenantMessaging", name, None, opts)
        self._name, self._args = name, args
        vhost = self._vhost()
        within = pulumi.ResourceOptions(parent=self, deleted_with=vhost, delete_before_replace=True)
        admin = permit(f"{name}/admin", args.platform.username, vhost.name, Permissions(".*", ".*", ".*"), within)
        own = pulumi.ResourceOptions(parent=self, deleted_with=args.platform.data, delete_before_replace=True)
        current, *retiring = [
            TenantUser.make(name, generation, args.topology, admin.vhost, own, within)
            for generation in args.settings.generations.all
        ]
        in_vhost = RoutingArgs(
            topology=args.topology, vhost=admin.vhost, deleted_with=vhost, protect=args.settings.protect
        )
        routing = Routing(name, in_vhost, within)
        record = self._record(current)
        permissions = [one for each in (current, *retiring) for one in each.permissions]
        self.safeguards = self._safeguards(current, retiring, vhost, routing, [*routing.leaves, *permissions, record])
        self.vhost, self.username, self.password = vhost.name, current.user.name, current.password
        self.amqp_uri = pulumi.Output.secret(
            pulumi.Output.format(
                "amqp://{0}:{1}@{2}/{3}",
                current.user.name,
                current.password,
                pulumi.Output.all(args.platform.amqp_host, args.platform.amqp_port).apply(lambda at: host_port(*at)),
                vhost.name.apply(lambda vhost_name: vhost_name.replace("/", "%2F")),
            )
        )
        self.register_outputs(self.summary())

    def summary(self) -> dict[str, pulumi.Input[object]]:
        """Return the tenant's part of the stack outputs."""
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
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=self._args.settings.protect or None,
                deleted_with=self._args.platform.data,
                delete_before_replace=True,
            ),
        )

    def _record(self, current: TenantUser) -> TenantRecord:
        both = pulumi.Output.all(current.user.name, current.password)
        args = TenantRecordArgs(
            registry_dsn=self._args.platform.registry_dsn,
            tenant=self._args.topology.tenant,
            username=current.user.name,
            password_hash=both.apply(lambda known: rabbitmq_hash(*known)),
        )
        return TenantRecord(f"{self._name}/record", args, pulumi.ResourceOptions(parent=self))

    def _safeguards(
        self,
        current: TenantUser,
        retiring: Sequence[TenantUser],
        vhost: rabbitmq.VHost,
        routing: Routing,
        before: Sequence[pulumi.Resource],
    ) -> Safeguards:
        """Create the safeguards last: their dependencies are deleted only after they have agreed to go."""
        limits = self._args.topology.limits
        args = SafeguardsArgs(
            access=self._args.platform.access,
            vhost=vhost.name,
            user=current.user.name,
            retiring_users=tuple(each.user.name for each in retiring),
            stats_users=tuple(each.stats.name for each in (current, *retiring)),
            queues=routing.queues,
            max_connections=limits.max_connections,
            max_channels=limits.max_channels,
            protected=self._args.settings.deletion_protection,
            allow_delete=self._args.settings.allow_delete,
        )
        opts = pulumi.ResourceOptions(parent=self, depends_on=list(before))
        return Safeguards(f"{self._name}/safeguards", args, opts)
