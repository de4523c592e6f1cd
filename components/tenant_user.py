"""A tenant's user of one generation: its password, itself, and what it may do. Two may live side by side."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.expansion import Topology

__all__ = ["TenantUser"]


@dataclass(frozen=True, kw_only=True)
class TenantUser:
    """What one generation of a tenant's credentials is made of."""

    user: rabbitmq.User
    password: pulumi.Output[str]
    permissions: rabbitmq.Permissions

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
        """Make one, with the options of what outlives the vhost and of what goes with it.

        The first generation has the names that a tenant without generations always had.
        """
        suffix = "" if generation == 1 else f".{generation}"
        password = random.RandomPassword(f"{name}/password{suffix}", length=PASSWORD_LENGTH, special=False, opts=own)
        user = rabbitmq.User(
            f"{name}/user{suffix}",
            name=topology.tenant.names.user_of(generation),
            password=password.result,
            tags=list(topology.user_tags),
            opts=own,
        )
        patterns = topology.granted
        permissions = rabbitmq.Permissions(
            f"{name}/user{suffix}",
            user=user.name,
            vhost=vhost,
            permissions={"configure": patterns.configure, "write": patterns.write, "read": patterns.read},
            opts=within,
        )
        return cls(user=user, password=password.result, permissions=permissions)
