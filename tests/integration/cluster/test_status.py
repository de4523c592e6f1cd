"""The state of a real cluster, with nodes of it drained or down, and queues short of members."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from kryonix.cluster.state import ClusterState, read_state
from kryonix.rabbitmq.broker import Broker
from tests.support.cluster import Cluster
from tests.support.waiting import eventually


@pytest.fixture
def vhost(three: Cluster) -> Iterator[str]:
    name = f"cluster-{secrets.token_hex(4)}"
    three.broker.call("PUT", "vhosts", name)
    yield name
    three.broker.call("DELETE", "vhosts", name)


def declare(broker: Broker, vhost: str, name: str, **arguments: object) -> None:
    arguments = {"x-queue-type": "quorum"} | arguments
    broker.call("PUT", "queues", vhost, name, json={"durable": True, "arguments": arguments})


def state(three: Cluster, asked: int = 0) -> ClusterState:
    with three.broker_at(asked) as broker:
        return read_state(broker)


def versioned(found: ClusterState) -> ClusterState | None:
    return found if {node.version for node in found.nodes} == {"4.3.6"} else None


def wounded(found: ClusterState) -> ClusterState | None:
    return found if found.short() and not all(node.running for node in found.nodes) else None


def test_a_whole_cluster_with_its_queues_is_healthy(three: Cluster, vhost: str) -> None:
    for name in ("a", "b"):
        declare(three.broker, vhost, name)
    declare(three.broker, vhost, "stream", **{"x-queue-type": "stream"})
    declare(three.broker, vhost, "classic", **{"x-queue-type": "classic"})
    found = eventually("each node has told its version", lambda: versioned(state(three)))
    assert found.problems() == []
    assert {len(queue.members) for queue in found.queues} == {3}
    assert sum(found.leaders().values()) == len(found.queues) == 3
    assert all(node.memory and node.disk_free and node.uptime_s is not None for node in found.nodes)


def test_a_queue_short_of_a_member_is_named(three: Cluster, vhost: str) -> None:
    declare(three.broker, vhost, "whole")
    declare(three.broker, vhost, "alone", **{"x-quorum-initial-group-size": 1})
    found = state(three)
    assert [queue.name for queue in found.short()] == ["alone"]
    assert found.problems() == [f"1 queue short of members: alone in {vhost} (1 of 1 online)"]


def test_any_node_tells_of_one_that_is_down(three: Cluster, vhost: str) -> None:
    declare(three.broker, vhost, "a")
    three.kill(0)
    try:
        found = eventually("its member is missed", lambda: wounded(state(three, 2)))
        assert found.problems()[0] == "not running: rabbit@one"
        assert all(queue.stops_without("rabbit@two") for queue in found.queues)
    finally:
        three.start(0)
    eventually("the cluster is whole", lambda: not state(three, 1).problems())


def test_a_queue_without_its_nodes_is_down_and_not_empty(three: Cluster, vhost: str) -> None:
    with three.broker_at(1) as second:
        declare(second, vhost, "alone", **{"x-quorum-initial-group-size": 1, "x-queue-leader-locator": "client-local"})
        message = {"properties": {}, "routing_key": "alone", "payload": "m", "payload_encoding": "string"}
        second.call("POST", "exchanges", vhost, "amq.default", "publish", json=message)
    declare(three.broker, vhost, "whole")
    three.kill(1)
    try:
        eventually("its node is missed", lambda: wounded(state(three)))
        found = {queue.name: queue.down for queue in three.broker.queues(vhost)}
        assert found == {"alone": True, "whole": False}
    finally:
        three.start(1)
    eventually("it is back", lambda: not any(queue.down for queue in three.broker.queues(vhost)))
    eventually("the node runs", lambda: three.has(3))


def test_other_nodes_tell_of_one_that_is_drained(three: Cluster, vhost: str) -> None:
    declare(three.broker, vhost, "a")
    assert three.nodes[1].exec_run(["rabbitmq-upgrade", "drain"]).exit_code == 0
    found = state(three)
    assert found.problems() == ["in maintenance mode, serving no clients: rabbit@two"]
    assert "rabbit@two" not in found.leaders()
    assert three.nodes[1].exec_run(["rabbitmq-upgrade", "revive"]).exit_code == 0
    eventually("it serves", lambda: not state(three).problems())
