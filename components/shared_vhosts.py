"""SharedVhosts: the platform's own vhosts, each with a least-privileged user."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.tenant_user import permit
from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.shared import SHARED_VHOSTS


@dataclass(frozen=True, kw_only=True)
class SharedUser:
    """The user of a shared vhost, usable once `ready` exists."""

    name: str
    password: pulumi.Output[str]
    ready: pulumi.Resource


class SharedVhosts(pulumi.ComponentResource):
    """The shared vhosts and their users, by vhost."""

    vhosts: dict[str, rabbitmq.VHost]
    users: dict[str, SharedUser]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:SharedVhosts", name, None, opts)
        self.vhosts, self.users = {}, {}
        child = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        for shared in SHARED_VHOSTS:
            prefix = f"{name}/{shared.name}"
            vhost = rabbitmq.VHost(
                prefix, name=shared.vhost, description=shared.purpose, default_queue_type="quorum", opts=child
            )
            password = random.RandomPassword(prefix, length=PASSWORD_LENGTH, special=False, opts=child).result
            user = rabbitmq.User(
                prefix, name=shared.user, password=password, tags=[*shared.tags, "management"], opts=child
            )
            with_vhost = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(deleted_with=vhost))
            permissions = permit(prefix, user.name, vhost.name, shared.permissions, with_vhost)
            self.vhosts[shared.vhost] = vhost
            self.users[shared.vhost] = SharedUser(name=shared.user, password=password, ready=permissions)
        self.register_outputs({"passwords": {user.name: user.password for user in self.users.values()}})
