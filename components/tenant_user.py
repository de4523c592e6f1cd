"""TenantUser: one generation of a tenant's credentials, a password and two users. Two generations may coexist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import NO_PERMISSIONS, Permissions


def permit(
    name: str,
    user: pulumi.Input[str],
    vhost: pulumi.Input[str | None],
    granted: Permissions,
    opts: pulumi.ResourceOptions,
) -> rabbitmq.Permissions:
    """Grant a user permissions in a vhost."""
    permissions = rabbitmq.PermissionsPermissionsArgs(**asdict(granted))
    return rabbitmq.Permissions(name, user=user, vhost=vhost, permissions=permissions, opts=opts)


@dataclass(frozen=True, kw_only=True)
class TenantUser:
    """The resources of one generation.

    One user sends and receives by AMQP, the other reads figures by HTTP; both have the same password. RabbitMQ builds
    HTTP answers with messages in memory without a limit, so the AMQP user has no access by HTTP.
    """

    user: rabbitmq.User
    stats: rabbitmq.User
    password: pulumi.Output[str]
    permissions: tuple[rabbitmq.Permissions, rabbitmq.Permissions]

    @classmethod
    def make(
        cls,
        name: str,
        generation: int,
        topology: Topology,
        vhost: pulumi.Input[str | None],
        own: pulumi.ResourceOptions,
        within: pulumi.ResourceOptions,
    ) -> TenantUser:
        """Create a generation; `own` are the options of the users, `within` those of objects deleted with the vhost.

        The first generation has the resource names of tenants from before generations.
        """
        suffix = "" if generation == 1 else f".{generation}"
        names = topology.tenant.names
        secret = random.RandomPassword(f"{name}/password{suffix}", length=PASSWORD_LENGTH, special=False, opts=own)

        def make_user(
            resource: str, user_name: str, tags: Sequence[str], granted: Permissions
        ) -> tuple[rabbitmq.User, rabbitmq.Permissions]:
            user = rabbitmq.User(resource, name=user_name, password=secret.result, tags=list(tags), opts=own)
            return user, permit(resource, user.name, vhost, granted, within)

        user, rights = make_user(f"{name}/user{suffix}", names.user_of(generation), (), topology.granted)
        stats, no_rights = make_user(
            f"{name}/stats{suffix}", names.stats_user_of(generation), topology.stats_tags, NO_PERMISSIONS
        )
        return cls(user=user, stats=stats, password=secret.result, permissions=(rights, no_rights))
