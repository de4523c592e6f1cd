"""Routing: the exchanges, queues, bindings and policies inside one vhost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pulumi
import pulumi_rabbitmq as rabbitmq

from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Exchange, Policy, Queue

_POLICIES: Final[dict[str, tuple[Any, Any]]] = {
    "policy": (rabbitmq.Policy, rabbitmq.PolicyPolicyArgs),
    "operator": (rabbitmq.OperatorPolicy, rabbitmq.OperatorPolicyPolicyArgs),
}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The resources of objects in one vhost. `opts` are the options of each."""

    vhost: pulumi.Input[str | None]
    opts: pulumi.ResourceOptions

    def also(self, **options: Any) -> Declaration:
        """Return a copy with more options."""
        return replace(self, opts=pulumi.ResourceOptions.merge(self.opts, pulumi.ResourceOptions(**options)))

    def policy(self, resource: str, policy: Policy) -> pulumi.CustomResource:
        kind, settings = _POLICIES[policy.kind]
        rule = settings(
            pattern=policy.pattern,
            priority=policy.priority,
            apply_to=policy.apply_to,
            # The provider sends a string that looks like an integer as an integer, as the broker expects.
            definition={key: str(value) for key, value in policy.definition.items()},
        )
        made: pulumi.CustomResource = kind(resource, name=policy.name, vhost=self.vhost, policy=rule, opts=self.opts)
        return made

    def exchange(self, resource: str, exchange: Exchange) -> rabbitmq.Exchange:
        arguments = {key: str(value) for key, value in exchange.arguments.items()} or None
        settings = rabbitmq.ExchangeSettingsArgs(
            type=exchange.type, durable=True, auto_delete=False, arguments=arguments
        )
        return rabbitmq.Exchange(resource, name=exchange.name, vhost=self.vhost, settings=settings, opts=self.opts)

    def queue(self, resource: str, queue: Queue, arguments_json: str) -> rabbitmq.Queue:
        """Declare a queue. Another text of its arguments, even with other spaces, would replace it."""
        settings = rabbitmq.QueueSettingsArgs(durable=True, auto_delete=False, arguments_json=arguments_json)
        return rabbitmq.Queue(resource, name=queue.name, vhost=self.vhost, settings=settings, opts=self.opts)

    def binding(
        self, resource: str, source: rabbitmq.Exchange, destination: rabbitmq.Queue, routing_key: str
    ) -> rabbitmq.Binding:
        return rabbitmq.Binding(
            resource,
            vhost=self.vhost,
            source=source.name,
            destination=destination.name,
            destination_type="queue",
            routing_key=routing_key,
            opts=self.opts,
        )


@dataclass(frozen=True, kw_only=True)
class RoutingArgs:
    """The topology and its vhost. `deleted_with` is the vhost's resource: its deletion removes everything in it."""

    topology: Topology
    vhost: pulumi.Input[str | None]
    deleted_with: pulumi.Resource
    protect: bool = False
    """Make Pulumi refuse to delete queues."""


class Routing(pulumi.ComponentResource):
    """Everything in a tenant's vhost. `leaves` are resources without dependents here."""

    leaves: Sequence[pulumi.Resource]
    queues: pulumi.Output[list[str]]

    def __init__(self, name: str, args: RoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Routing", name, None, opts)
        topology, main = args.topology, args.topology.tenant.names.exchange

        def local(object_name: str) -> str:
            """Return an object's resource name: without the prefix of all the tenant's names."""
            return "main" if object_name == main else object_name.removeprefix(f"{main}.")

        # A second object of the same name can't exist: create-before-delete would create nothing and then delete the
        # old one. Deleted first, an object takes its dependents along, and so has to pass the tenant's safeguards.
        within = pulumi.ResourceOptions(parent=self, deleted_with=args.deleted_with, delete_before_replace=True)
        declare = after = Declaration(vhost=args.vhost, opts=within)
        # The policies are created one after the other, and all before the first queue. For a new policy the broker
        # reads all policies and queues, then writes each queue's effective policy, without a transaction. Two policies
        # at a time, or a queue declared meanwhile, can leave a queue without limits for good.
        for policy in topology.policies:
            after = declare.also(depends_on=[after.policy(f"{name}/{policy.name}", policy)])
        after = after.also(protect=args.protect or None)
        exchanges = {each.name: declare.exchange(f"{name}/{local(each.name)}", each) for each in topology.exchanges}
        queues = {}
        for queue in topology.queues:
            text = json.dumps(dict(queue.arguments), sort_keys=True, separators=(",", ":"))
            queues[queue.name] = after.queue(f"{name}/{local(queue.name)}", queue, text)
        self.leaves = [
            declare.binding(
                f"{name}/{local(each.source)}/{each.routing_key or local(each.destination)}",
                exchanges[each.source],
                queues[each.destination],
                each.routing_key,
            )
            for each in topology.bindings
        ]
        self.queues = pulumi.Output.all(*(queue.name for queue in queues.values()))
        self.register_outputs({"queues": self.queues})
