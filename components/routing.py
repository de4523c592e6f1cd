"""Routing: the exchanges, queues, bindings and policies inside one vhost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_rabbitmq as rabbitmq

from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Binding, Exchange, Queue

_POLICIES: Final[dict[str, tuple[Any, Any]]] = {
    "policy": (rabbitmq.Policy, rabbitmq.PolicyPolicyArgs),
    "operator": (rabbitmq.OperatorPolicy, rabbitmq.OperatorPolicyPolicyArgs),
}


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
        self._name, self._args = name, args
        self._prefix = f"{args.topology.tenant.names.exchange}."
        # A second object of the same name can't exist: create-before-delete would create nothing and then delete the
        # old one. Deleted first, an object takes its dependents along, and so has to pass the tenant's safeguards.
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
        """Return an object's resource name: without the prefix of all the tenant's names."""
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
        """Create the policies one after the other, and all before the first queue.

        For a new policy the broker reads all policies and queues, then writes each queue's effective policy, without a
        transaction. Two policies at a time, or a queue declared meanwhile, can leave a queue without limits for good.
        """
        made: list[pulumi.CustomResource] = []
        for policy in self._args.topology.policies:
            kind, settings = _POLICIES[policy.kind]
            # The provider sends a string that looks like an integer as an integer, as the broker expects.
            definition = {key: str(value) for key, value in policy.definition.items()}
            made.append(
                kind(
                    f"{self._name}/{policy.name}",
                    name=policy.name,
                    vhost=self._args.vhost,
                    policy=settings(
                        pattern=policy.pattern,
                        priority=policy.priority,
                        apply_to=policy.apply_to,
                        definition=definition,
                    ),
                    opts=pulumi.ResourceOptions.merge(self._within, pulumi.ResourceOptions(depends_on=made[-1:])),
                )
            )
        return made
