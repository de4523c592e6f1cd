"""What a restore would change, and what it refuses, told from a broker's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from kryonix.backup.errors import ShortOfNodes
from kryonix.backup.restore_plan import (
    RestorePlan,
    narrowed_queues,
    refuse_few_nodes,
    replaced_queues,
    same_state,
    trimmed_queues,
)
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.rabbitmq.broker import Broker, Filling
from kryonix.tenants.errors import WouldLoseMessages
from kryonix.topology.objects import QueueState
from kryonix.topology.tenants import Tenant
from tests.support.expanded import expanded

WAS = expanded(Tenant(id="acme", modules=("crm",), plan="basic"))
QUEUE = "cliente_acme.crm.leads.create"
LETTERS = f"{QUEUE}.dlq"


class Answers:
    """A broker that answers what it was given."""

    def __init__(self, *, nodes: dict[str, bool] | None = None, held: dict[str, int] | None = None, **policy: int):
        self._nodes, self._held, self._policy = nodes or {}, held or {}, policy

    def nodes(self) -> dict[str, bool]:
        return self._nodes

    def queues(self, vhost: str) -> list[QueueState]:
        return [QueueState(vhost, name, {}, count) for name, count in self._held.items()]

    def fillings(self, vhost: str) -> list[Filling]:
        return [Filling(vhost, name, 0, 0, self._policy) for name in self._held]


def broker(**answers: Any) -> Broker:
    return cast("Broker", Answers(**answers))


def with_queue(snapshot: TenantSnapshot, name: str, **arguments: str) -> TenantSnapshot:
    changed = [
        {**queue, "arguments": arguments} if queue["name"] == name else queue
        for queue in snapshot.definitions["queues"]
    ]
    return replace(snapshot, definitions={**snapshot.definitions, "queues": changed})


def plan(now: TenantSnapshot = WAS, was: TenantSnapshot = WAS, **found: Any) -> RestorePlan:
    return RestorePlan(snapshot=was, now=now, nodes=1, **{"replaced": {}, "trimmed": {}, **found})


@pytest.mark.parametrize(
    ("nodes", "wanted", "said"),
    [
        ({"a": True, "b": True, "c": False}, 3, r"of the cluster's 3 nodes, c do not run.*forget_cluster_node"),
        ({"a": True}, 3, r"made on 3 nodes, and this cluster has 1.*--fewer-nodes"),
    ],
)
def test_a_cluster_that_is_short_of_nodes_is_refused(nodes: dict[str, bool], wanted: int, said: str) -> None:
    with pytest.raises(ShortOfNodes, match=said) as caught:
        refuse_few_nodes(broker(nodes=nodes), wanted, fewer=False)
    assert caught.value.exit_status == 3


def test_fewer_nodes_can_be_accepted_and_a_stopped_one_can_not() -> None:
    refuse_few_nodes(broker(nodes={"a": True}), 3, fewer=True)
    refuse_few_nodes(broker(nodes={"a": True, "b": True, "c": True}), 3, fewer=False)
    with pytest.raises(ShortOfNodes):
        refuse_few_nodes(broker(nodes={"a": True, "b": False}), 1, fewer=True)


def test_a_queue_with_other_arguments_is_replaced_and_counted() -> None:
    now = with_queue(WAS, QUEUE, **{"x-queue-type": "classic"})
    assert replaced_queues(broker(held={QUEUE: 4, LETTERS: 9}), WAS, now) == {QUEUE: 4}
    assert replaced_queues(broker(held={QUEUE: 4}), WAS, WAS) == {}


def test_only_a_lower_bound_that_drops_messages_trims_a_queue() -> None:
    held = {QUEUE: 10**6, LETTERS: 10**6}
    assert trimmed_queues(broker(held=held), WAS, WAS) == {LETTERS: 10**6}, "an action's queue refuses new messages"
    assert trimmed_queues(broker(held={LETTERS: 1}), WAS, WAS) == {}
    assert [each.name for each, _ in narrowed_queues(broker(held={LETTERS: 1}), WAS, WAS)] == [LETTERS]
    in_effect = {"max-length": 1, "max-length-bytes": 1}
    assert trimmed_queues(broker(held=held, **in_effect), WAS, WAS) == {}, "that bound holds already"
    assert trimmed_queues(broker(held=held), WAS, replace(WAS, vhost=None)) == {}


def test_a_loss_is_refused_with_every_queue_unless_each_is_allowed() -> None:
    losing = plan(replaced={QUEUE: 4, "cliente_acme.empty": 0}, trimmed={LETTERS: 7})
    with pytest.raises(WouldLoseMessages, match=r"(?s)4 messages in .*create: .*other arguments.*7 messages") as caught:
        losing.refuse_losses([])
    assert caught.value.queues == {QUEUE: 4, LETTERS: 7}
    with pytest.raises(WouldLoseMessages) as caught:
        losing.refuse_losses([QUEUE])
    assert caught.value.queues == {LETTERS: 7}
    losing.refuse_losses(["cliente_acme.crm.*"])


def test_the_plan_tells_what_becomes_of_the_state() -> None:
    later = {**(WAS.state or {}), "deployment": {**(WAS.state or {})["deployment"], "manifest": {"time": "later"}}}
    without, listed = replace(WAS, state=None), {**(WAS.vhost or {}), "description": "Tenant acme, managed by dev"}
    assert same_state(WAS.state, later)
    assert same_state(None, {"version": 3, "deployment": {"resources": []}})
    assert plan(now=replace(WAS, state=later)).state == "unchanged"
    assert plan(now=without).state == "restored"
    assert plan(was=without).state == "kept"
    assert plan(was=without, now=without).state == "missing"
    assert plan(was=replace(without, vhost=listed)).state == "platform"


def test_bindings_of_a_queue_that_is_declared_again_are_kept() -> None:
    extra = {**WAS.definitions["bindings"][0], "destination": QUEUE, "routing_key": "by.hand"}
    definitions = {**WAS.definitions, "bindings": [*WAS.definitions["bindings"], extra]}
    now = replace(WAS, definitions=definitions)
    assert plan(now=now, replaced={QUEUE: 0}).severed == [extra]
    assert plan(now=now).severed == []
    assert [each.name for each in plan(now=now).extras] == [f"{extra['source']} -> {QUEUE} [by.hand]"]
