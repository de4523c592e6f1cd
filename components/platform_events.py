"""PlatformEvents: the exchange and the queue of events about tenants, in the master vhost."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.existing_platform import PlatformOutputs
from components.shared_vhosts import SharedVhosts
from kryonix.topology.addresses import host_port
from kryonix.topology.shared import EVENTS


@dataclass(frozen=True, kw_only=True)
class PlatformEventsArgs:
    """The shared vhosts, and the platform whose address publishers use."""

    shared: SharedVhosts
    platform: PlatformOutputs


class PlatformEvents(pulumi.ComponentResource):
    """The exchange of events, and a queue that keeps them for later consumers. `uri` is the publisher's."""

    uri: pulumi.Output[str]

    def __init__(self, name: str, args: PlatformEventsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        vhost, user = args.shared.vhosts[EVENTS.vhost], args.shared.users[EVENTS.vhost]
        # Deleted with the vhost: a `destroy` that is refused earlier leaves it in place too.
        with_vhost = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=vhost))
        super().__init__("kryonix:messaging:PlatformEvents", name, None, with_vhost)
        bound = _route(name, vhost, pulumi.ResourceOptions(parent=self, deleted_with=vhost, delete_before_replace=True))
        address = pulumi.Output.all(
            user.password, args.platform.amqp_host, args.platform.amqp_port, user.ready.urn, bound.id
        )
        self.uri = pulumi.Output.secret(
            address.apply(
                lambda found: (
                    f"amqp://{user.name}:{found[0]}@{host_port(found[1], found[2])}/{EVENTS.vhost.replace('/', '%2F')}"
                )
            )
        )
        self.register_outputs({"uri": self.uri})


def _route(name: str, vhost: rabbitmq.VHost, within: pulumi.ResourceOptions) -> rabbitmq.Binding:
    policy = rabbitmq.Policy(
        f"{name}/policy",
        name=EVENTS.policy,
        vhost=vhost.name,
        policy=rabbitmq.PolicyPolicyArgs(
            pattern=f"^{EVENTS.queue.replace('.', '[.]')}$",
            priority=1,
            apply_to="queues",
            definition={
                "message-ttl": str(EVENTS.retention_ms),
                "max-length": str(EVENTS.max_length),
                "overflow": "drop-head",
            },
        ),
        opts=within,
    )
    exchange = rabbitmq.Exchange(
        f"{name}/exchange",
        name=EVENTS.exchange,
        vhost=vhost.name,
        settings=rabbitmq.ExchangeSettingsArgs(type="topic", durable=True, auto_delete=False),
        opts=within,
    )
    queue = rabbitmq.Queue(
        f"{name}/queue",
        name=EVENTS.queue,
        vhost=vhost.name,
        settings=rabbitmq.QueueSettingsArgs(
            durable=True, auto_delete=False, arguments_json=json.dumps({"x-queue-type": "quorum"})
        ),
        opts=pulumi.ResourceOptions.merge(within, pulumi.ResourceOptions(depends_on=[policy])),
    )
    return rabbitmq.Binding(
        f"{name}/binding",
        vhost=vhost.name,
        source=exchange.name,
        destination=queue.name,
        destination_type="queue",
        routing_key="#",
        opts=within,
    )
