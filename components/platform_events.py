"""PlatformEvents: the exchange and the queue of events about tenants, in the master vhost."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.existing_platform import PlatformOutputs
from components.shared_vhosts import SharedVhosts
from kryonix.topology.shared import EVENTS, EventChannel


@dataclass(frozen=True, kw_only=True)
class PlatformEventsArgs:
    """The shared vhosts, and the platform whose address publishers use."""

    shared: SharedVhosts
    platform: PlatformOutputs
    channel: EventChannel = EVENTS


class PlatformEvents(pulumi.ComponentResource):
    """The exchange of events, and a queue that keeps them for later consumers. `uri` is the publisher's."""

    uri: pulumi.Output[str]

    def __init__(self, name: str, args: PlatformEventsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._name, channel = name, args.channel
        vhost, user = args.shared.vhosts[channel.vhost], args.shared.users[channel.vhost]
        # Deleted with the vhost: a `destroy` that is refused earlier leaves it in place too.
        with_vhost = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=vhost))
        super().__init__("kryonix:messaging:PlatformEvents", name, None, with_vhost)
        self._within = pulumi.ResourceOptions(parent=self, deleted_with=vhost, delete_before_replace=True)
        bound = self._route(channel, vhost)
        address = pulumi.Output.all(
            user.password, args.platform.amqp_host, args.platform.amqp_port, user.ready.urn, bound.id
        )
        self.uri = pulumi.Output.secret(
            address.apply(
                lambda found: f"amqp://{user.name}:{found[0]}@{found[1]}:{found[2]}/{channel.vhost.replace('/', '%2F')}"
            )
        )
        self.register_outputs({"uri": self.uri})

    def _route(self, channel: EventChannel, vhost: rabbitmq.VHost) -> rabbitmq.Binding:
        exchange = rabbitmq.Exchange(
            f"{self._name}/exchange",
            name=channel.exchange,
            vhost=vhost.name,
            settings=rabbitmq.ExchangeSettingsArgs(type="topic", durable=True, auto_delete=False),
            opts=self._within,
        )
        queue = rabbitmq.Queue(
            f"{self._name}/queue",
            name=channel.queue,
            vhost=vhost.name,
            settings=rabbitmq.QueueSettingsArgs(
                durable=True, auto_delete=False, arguments_json=json.dumps({"x-queue-type": "quorum"})
            ),
            opts=pulumi.ResourceOptions.merge(
                self._within, pulumi.ResourceOptions(depends_on=[self._bounds(channel, vhost)])
            ),
        )
        return rabbitmq.Binding(
            f"{self._name}/binding",
            vhost=vhost.name,
            source=exchange.name,
            destination=queue.name,
            destination_type="queue",
            routing_key="#",
            opts=self._within,
        )

    def _bounds(self, channel: EventChannel, vhost: rabbitmq.VHost) -> rabbitmq.Policy:
        definition = {
            "message-ttl": str(channel.retention_ms),
            "max-length": str(channel.max_length),
            "overflow": "drop-head",
        }
        return rabbitmq.Policy(
            f"{self._name}/policy",
            name=channel.policy,
            vhost=vhost.name,
            policy=rabbitmq.PolicyPolicyArgs(
                pattern=f"^{channel.queue.replace('.', '[.]')}$", priority=1, apply_to="queues", definition=definition
            ),
            opts=self._within,
        )
