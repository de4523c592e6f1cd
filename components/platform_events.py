"""PlatformEvents: the exchange and the queue of events about tenants, in the master vhost."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi

from components.existing_platform import PlatformOutputs
from components.routing import Declaration
from components.shared_vhosts import SharedVhosts
from kryonix.topology.shared import EVENTS_EXCHANGE, EVENTS_POLICY, EVENTS_QUEUE, EVENTS_VHOST


@dataclass(frozen=True, kw_only=True)
class PlatformEventsArgs:
    """The shared vhosts, and the platform whose address publishers use."""

    shared: SharedVhosts
    platform: PlatformOutputs


class PlatformEvents(pulumi.ComponentResource):
    """The exchange of events, and a queue that keeps them for later consumers. `uri` is the publisher's."""

    uri: pulumi.Output[str]

    def __init__(self, name: str, args: PlatformEventsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        vhost, (permissions, password) = args.shared.vhosts[EVENTS_VHOST], args.shared.logins[EVENTS_VHOST]
        # Deleted with the vhost: a `destroy` that is refused earlier leaves it in place too.
        with_vhost = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=vhost))
        super().__init__("kryonix:messaging:PlatformEvents", name, None, with_vhost)
        within = pulumi.ResourceOptions(parent=self, deleted_with=vhost, delete_before_replace=True)
        declare = Declaration(vhost=vhost.name, opts=within)
        policy = declare.policy(f"{name}/policy", EVENTS_POLICY)
        exchange = declare.exchange(f"{name}/exchange", EVENTS_EXCHANGE)
        arguments = json.dumps(dict(EVENTS_QUEUE.arguments))
        queue = declare.also(depends_on=[policy]).queue(f"{name}/queue", EVENTS_QUEUE, arguments)
        bound = declare.binding(f"{name}/binding", exchange, queue, "#")
        # Of outputs that are known once the publisher may publish, and its events arrive in the queue.
        self.uri = args.platform.amqp_uri(permissions.user, password, bound.vhost)
        self.register_outputs({"uri": self.uri})
