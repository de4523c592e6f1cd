"""SharedVhosts: the platform's own vhosts, each with a least-privileged user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.shared import SHARED_VHOSTS, SharedVhost


@dataclass(frozen=True, kw_only=True)
class SharedUser:
    """The user of a shared vhost, usable once `ready` exists."""

    name: str
    password: pulumi.Output[str]
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class SharedVhostsArgs:
    """The vhosts to create."""

    vhosts: Sequence[SharedVhost] = SHARED_VHOSTS


class SharedVhosts(pulumi.ComponentResource):
    """The shared vhosts and their users, by vhost."""

    vhosts: dict[str, rabbitmq.VHost]
    users: dict[str, SharedUser]

    def __init__(self, name: str, args: SharedVhostsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:SharedVhosts", name, None, opts)
        self.vhosts, self.users = {}, {}
        for shared in args.vhosts:
            self._make(name, shared)
        self.register_outputs({"passwords": {user.name: user.password for user in self.users.values()}})

    def _make(self, name: str, shared: SharedVhost) -> None:
        prefix, child = f"{name}/{shared.name}", pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        vhost = rabbitmq.VHost(
            prefix, name=shared.vhost, description=shared.purpose, default_queue_type="quorum", opts=child
        )
        password = random.RandomPassword(prefix, length=PASSWORD_LENGTH, special=False, opts=child)
        user = rabbitmq.User(
            prefix, name=shared.user, password=password.result, tags=[*shared.tags, "management"], opts=child
        )
        permissions = rabbitmq.Permissions(
            prefix,
            user=user.name,
            vhost=vhost.name,
            permissions={
                "configure": shared.permissions.configure,
                "write": shared.permissions.write,
                "read": shared.permissions.read,
            },
            opts=pulumi.ResourceOptions(parent=self, deleted_with=vhost, delete_before_replace=True),
        )
        self.vhosts[shared.vhost] = vhost
        self.users[shared.vhost] = SharedUser(name=shared.user, password=password.result, ready=permissions)
