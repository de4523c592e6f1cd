"""TenantUser: one generation of a tenant's credentials and its two users. Two generations may coexist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.client_certificate import ClientCertificate
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
    HTTP answers with messages in memory without a limit, so the AMQP user has no access by HTTP. With a `certificate`
    the AMQP user has no password: the broker takes the certificate's common name for its name.
    """

    user: rabbitmq.User
    stats: rabbitmq.User
    password: pulumi.Output[str]
    certificate: ClientCertificate | None
    permissions: tuple[rabbitmq.Permissions, rabbitmq.Permissions]

    @classmethod
    def make(
        cls,
        name: str,
        generation: int,
        topology: Topology,
        vhost: pulumi.Input[str | None],
        authority: pulumi.Input[dict[str, str]],
        own: pulumi.ResourceOptions,
        within: pulumi.ResourceOptions,
    ) -> TenantUser:
        """Create a generation; `own` are the options of the users, `within` those of objects deleted with the vhost.

        `authority` issues the certificate, if the tenant logs in with one. The first generation has the resource names
        of tenants from before generations.
        """
        suffix = "" if generation == 1 else f".{generation}"
        names = topology.tenant.names
        secret = random.RandomPassword(f"{name}/password{suffix}", length=PASSWORD_LENGTH, special=False, opts=own)

        certified = topology.tenant.auth == "certificate"
        certificate = None
        if certified:
            certificate = ClientCertificate(
                f"{name}/certificate{suffix}", common_name=names.user_of(generation), authority=authority, opts=own
            )

        def make_user(
            resource: str, user_name: str, tags: Sequence[str], granted: Permissions, password: pulumi.Input[str]
        ) -> tuple[rabbitmq.User, rabbitmq.Permissions]:
            user = rabbitmq.User(resource, name=user_name, password=password, tags=list(tags), opts=own)
            return user, permit(resource, user.name, vhost, granted, within)

        login: pulumi.Input[str] = "" if certified else secret.result
        user, rights = make_user(f"{name}/user{suffix}", names.user_of(generation), (), topology.granted, login)
        stats, no_rights = make_user(
            f"{name}/stats{suffix}",
            names.stats_user_of(generation),
            topology.stats_tags,
            NO_PERMISSIONS,
            secret.result,
        )
        return cls(
            user=user,
            stats=stats,
            password=secret.result,
            certificate=certificate,
            permissions=(rights, no_rights),
        )
