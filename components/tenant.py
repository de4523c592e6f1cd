"""TenantMessaging: all of one customer's objects on the broker and rows in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.errors import InvalidStack
from components.existing_platform import PlatformOutputs
from components.routing import Routing, RoutingArgs
from components.safeguards import Safeguards
from components.settings import Settings
from components.tenant_record import TenantRecord
from components.tenant_user import TenantUser, permit
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
        users = [
            TenantUser.make(name, generation, args.topology, admin.vhost, self._authority(), own, within)
            for generation in args.settings.generations.all
        ]
        current = users[0]
        in_vhost = RoutingArgs(
            topology=args.topology, vhost=admin.vhost, deleted_with=vhost, protect=args.settings.protect
        )
        routing = Routing(name, in_vhost, within)
        self.vhost, self.username, self.password = vhost.name, current.user.name, current.password
        self._certificate = current.certificate
        login = pulumi.Output.from_input("") if current.certificate else current.password
        self.amqp_uri = args.platform.amqp_uri(self.username, login, self.vhost)
        record = TenantRecord(
            f"{name}/record",
            registry_dsn=args.platform.registry_dsn,
            tenant=args.topology.tenant,
            username=self.username,
            password_hash=pulumi.Output.all(self.username, login).apply(lambda known: rabbitmq_hash(*known)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        permissions = [one for user in users for one in user.permissions]
        # Last: what they depend on is deleted only after they have agreed to go.
        self.safeguards = Safeguards(
            f"{name}/safeguards",
            access=args.platform.access,
            vhost=self.vhost,
            users=[each.user.name for each in users],
            stats_users=[each.stats.name for each in users],
            queues=routing.queues,
            limits=args.topology.limits,
            protected=args.settings.deletion_protection,
            allow_delete=args.settings.allow_delete,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*routing.leaves, *permissions, record]),
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
            **self._certified(),
        }

    def _certified(self) -> dict[str, pulumi.Input[object]]:
        """Return the outputs of a tenant that logs in with a certificate."""
        if self._certificate is None:
            return {}
        certificate = self._certificate
        return {
            "auth": "certificate",
            "client_certificate": certificate.certificate,
            "client_key": certificate.key.apply(str),
        }

    def _authority(self) -> pulumi.Output[dict[str, str]]:
        """Return the CA that issues the tenant's certificate; raises InvalidStack for a platform without one."""
        tenant, authority = self._args.topology.tenant, self._args.platform.authority
        if tenant.auth == "password":
            return pulumi.Output.from_input({})
        refusal = InvalidStack(
            f"tenant {tenant.id!r}: `auth: certificate` needs a platform that speaks TLS and issues certificates, and "
            "this one doesn't. Set kryonix:tls on the platform's stack and run `up` there, or use `auth: password`"
        )

        def checked(known: Mapping[str, str] | None) -> dict[str, str]:
            if not known:
                raise refusal
            return dict(known)

        if authority is None:
            raise refusal
        return pulumi.Output.from_input(authority).apply(checked)

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
