"""SharedVhosts: the platform's own vhosts, each with a least-privileged user."""

from __future__ import annotations

import pulumi
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.tenant_user import permit
from kryonix.topology.credentials import PASSWORD_LENGTH
from kryonix.topology.shared import SHARED_VHOSTS


class SharedVhosts(pulumi.ComponentResource):
    """The shared vhosts, and the permissions and password of the user of each."""

    vhosts: dict[str, rabbitmq.VHost]
    logins: dict[str, tuple[rabbitmq.Permissions, pulumi.Output[str]]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:SharedVhosts", name, None, opts)
        self.vhosts, self.logins, passwords = {}, {}, {}
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
            self.vhosts[shared.vhost], self.logins[shared.vhost] = vhost, (permissions, password)
            passwords[shared.user] = password
        self.register_outputs({"passwords": passwords})
