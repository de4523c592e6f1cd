"""Routing: the exchanges, queues, bindings and policies inside one vhost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_rabbitmq as rabbitmq

from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Binding, Exchange, Policy, Queue

__all__ = ["Routing", "RoutingArgs"]


@dataclass(frozen=True, kw_only=True)
class RoutingArgs:
    """What to make, in which vhost; `deleted_with` is the vhost's resource, whose removal takes all of it along."""

    topology: Topology
    vhost: pulumi.Input[str | None]
    deleted_with: pulumi.Resource
    protect: bool = False
    """Whether Pulumi refuses to delete a queue."""


class Routing(pulumi.ComponentResource):
    """Everything in a tenant's vhost. `leaves` are the resources that nothing else here depends on."""

    leaves: Sequence[pulumi.Resource]
    queues: pulumi.Output[list[str]]

    def __init__(self, name: str, args: RoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Routing", name, None, opts)
        self._name, self._args = name, args
        self._prefix = f"{args.topology.tenant.names.exchange}."
        # Two of one name can't exist: an engine that is told to replace one would make nothing and delete the old one.
        # Deleted first, it takes along what depends on it, and so has to pass the tenant's safeguards.
        self._within = pulumi.ResourceOptions(parent=self, deleted_with=args.deleted_with, delete_before_replace=True)
        policies = self._policies()
        self._after_policies = pulumi.ResourceOptions.merge(
            self._within, pulumi.ResourceOptions(depends_on=policies[-1:])
        )
        exchanges = {exchange.name: self._exchange(exchange) for exchange in args.topology.exchanges}
        self._of_queues = (
            pulumi.ResourceOptions.merge(self._after_policies, pulumi.ResourceOptions(protect=True))
            if args.protect
            else self._after_policies
        )
        queues = {queue.name: self._queue(queue) for queue in args.topology.queues}
        bindings = [
            self._binding(binding, exchanges[binding.source], queues[binding.destination])
            for binding in args.topology.bindings
        ]
        self.leaves = bindings
        self.queues = pulumi.Output.all(*(queue.name for queue in queues.values()))
        self.register_outputs({"queues": self.queues})

    def _local(self, name: str) -> str:
        """A resource's name: the object's, without what all the tenant's names begin with."""
        return name.removeprefix(self._prefix) if name != self._prefix[:-1] else "main"

    def _exchange(self, exchange: Exchange) -> rabbitmq.Exchange:
        return rabbitmq.Exchange(
            f"{self._name}/{self._local(exchange.name)}",
            name=exchange.name,
            vhost=self._args.vhost,
            settings=rabbitmq.ExchangeSettingsArgs(
                type=exchange.type,
                durable=True,
                auto_delete=False,
                arguments={key: str(value) for key, value in exchange.arguments.items()} or None,
            ),
            opts=self._within,
        )

    def _queue(self, queue: Queue) -> rabbitmq.Queue:
        return rabbitmq.Queue(
            f"{self._name}/{self._local(queue.name)}",
            name=queue.name,
            vhost=self._args.vhost,
            settings=rabbitmq.QueueSettingsArgs(
                durable=True,
                auto_delete=False,
                arguments_json=json.dumps(dict(queue.arguments), sort_keys=True, separators=(",", ":")),
            ),
            opts=self._of_queues,
        )

    def _binding(self, binding: Binding, source: rabbitmq.Exchange, destination: rabbitmq.Queue) -> rabbitmq.Binding:
        key = binding.routing_key or self._local(binding.destination)
        return rabbitmq.Binding(
            f"{self._name}/{self._local(binding.source)}/{key}",
            vhost=self._args.vhost,
            source=source.name,
            destination=destination.name,
            destination_type="queue",
            routing_key=binding.routing_key,
            opts=self._within,
        )

    def _policies(self) -> list[pulumi.CustomResource]:
        """The policies, one after the other, and all of them before the first queue.

        A broker that takes a policy reads all policies and queues, then writes what applies to each queue, not in one
        transaction. Two policies at once, or a queue declared meanwhile, can leave a queue without its limits for good.
        """
        made: list[pulumi.CustomResource] = []
        for policy in self._args.topology.policies:
            opts = pulumi.ResourceOptions.merge(self._within, pulumi.ResourceOptions(depends_on=made[-1:]))
            made.append(self._policy(policy, opts))
        return made

    def _policy(self, policy: Policy, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
        # The provider sends every text that looks like an integer as an integer, which is what these are.
        definition = {key: str(value) for key, value in policy.definition.items()}
        if policy.kind == "operator":
            return rabbitmq.OperatorPolicy(
                f"{self._name}/{policy.name}",
                name=policy.name,
                vhost=self._args.vhost,
                policy=rabbitmq.OperatorPolicyPolicyArgs(
                    pattern=policy.pattern, priority=policy.priority, apply_to=policy.apply_to, definition=definition
                ),
                opts=opts,
            )
        return rabbitmq.Policy(
            f"{self._name}/{policy.name}",
            name=policy.name,
            vhost=self._args.vhost,
            policy=rabbitmq.PolicyPolicyArgs(
                pattern=policy.pattern, priority=policy.priority, apply_to=policy.apply_to, definition=definition
            ),
            opts=opts,
        )
