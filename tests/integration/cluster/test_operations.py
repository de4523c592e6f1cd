"""Draining, replacing and reviving nodes of a real cluster, and giving its queues members."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kryonix.cluster.errors import ClusterNotReady, CommandFailed, OperationStopped
from kryonix.cluster.members import add_members, add_replicas
from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.roll import Roll, finish, refusals
from kryonix.cluster.state import read_state
from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.rabbitmq.broker import Broker
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

ALONE = {"x-queue-type": "quorum", "x-quorum-initial-group-size": 1}


@pytest.fixture
def vhost(three: Cluster) -> Iterator[str]:
    name = f"operations-{secrets.token_hex(4)}"
    three.broker.call("PUT", "vhosts", name)
    yield name
    three.broker.call("DELETE", "vhosts", name)


@pytest.fixture
def nodes(three: Cluster) -> list[RecordedNode]:
    names = ("rabbit@one", "rabbit@two", "rabbit@three")
    return [
        RecordedNode(number=number, name=name, container=container.name, docker="")
        for number, (name, container) in enumerate(zip(names, three.nodes, strict=True), 1)
    ]


class Restarting:
    """An engine whose run restarts the container of a node, as a replacement would."""

    def __init__(self, three: Cluster, *, fails: bool = False, turn: int = 0) -> None:
        self.three, self.fails, self.turn = three, fails, turn
        self.alone = list[bool]()
        """For each restart, True if the other nodes ran."""

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        if self.fails:
            raise EngineFailed("no such image")
        # One that another roll has drained a moment later still has its members, and is given back.
        with connect(self.three) as broker:
            self.alone.append(all(node.running for node in read_state(broker).nodes))
        self.three.nodes[self.turn].restart(timeout=30)
        self.turn += 1
        return Summary({}, ())


def connect(three: Cluster) -> Broker:
    """Return a client of all nodes: any of them may be away."""
    urls = [f"http://127.0.0.1:{port}" for port in three.management_ports]
    return Broker(urls[0], *three.login, further_urls=urls[1:])


def rolled(three: Cluster, engine: Restarting) -> Roll:
    return Roll(
        engine=engine,  # type: ignore[arg-type]
        spec=StackSpec(name="dev"),
        connect=lambda: connect(three),
        on_stage=lambda text: None,
    )


def declare(three: Cluster, vhost: str, name: str, **arguments: object) -> None:
    arguments = arguments or {"x-queue-type": "quorum"}
    three.broker.call("PUT", "queues", vhost, name, json={"durable": True, "arguments": arguments})


def test_each_node_is_replaced_with_its_members_back(three: Cluster, vhost: str, nodes: list[RecordedNode]) -> None:
    for number in range(6):
        declare(three, vhost, f"q{number}")
    started = {node.name: time.time() - (node.uptime_s or 0) for node in read_state(three.broker).nodes}
    rolled(three, Restarting(three)).run(nodes, [])
    state = read_state(three.broker)
    assert refusals(state, nodes, nodes) == []
    assert all(time.time() - (node.uptime_s or 0) > started[node.name] for node in state.nodes)
    finish(three.broker)
    eventually("the leaders are spread", lambda: sorted(read_state(three.broker).leaders().values()) == [2, 2, 2])


def test_a_failed_replacement_leaves_the_node_serving(three: Cluster, vhost: str, nodes: list[RecordedNode]) -> None:
    declare(three, vhost, "q")
    with pytest.raises(OperationStopped, match="no such image"):
        rolled(three, Restarting(three, fails=True)).run(nodes[1:2], [])
    eventually("it serves", lambda: not read_state(three.broker).problems())


def test_two_rolls_at_once_never_take_two_nodes(three: Cluster, vhost: str, nodes: list[RecordedNode]) -> None:
    """Those of one machine lock each other out; these are of two."""
    declare(three, vhost, "q")
    first, second = Restarting(three), Restarting(three, turn=2)
    with ThreadPoolExecutor() as pool:
        rolls = [
            pool.submit(rolled(three, engine).run, nodes[engine.turn : engine.turn + 1], [])
            for engine in (first, second)
        ]
    problems = [str(each.exception()) for each in rolls if each.exception()]
    assert all("Another roll may be going on" in each for each in problems), problems
    assert len(problems) + len(first.alone) + len(second.alone) == 2
    assert all([*first.alone, *second.alone]), "all other nodes ran when a container was replaced"
    eventually("all serve", lambda: not read_state(three.broker).problems())


def test_a_queue_with_one_member_refuses_its_node(three: Cluster, vhost: str, nodes: list[RecordedNode]) -> None:
    declare(three, vhost, "alone", **ALONE)
    (problem,) = refusals(read_state(three.broker), nodes, nodes)
    assert f"alone in {vhost}" in problem


def test_queues_get_the_members_that_they_lack(three: Cluster, vhost: str) -> None:
    for number in range(9):
        declare(three, vhost, f"q{number}", **ALONE)
    assert add_members(three.broker) == {}
    found = [queue for queue in read_state(three.broker).queues if queue.vhost == vhost]
    assert [(len(queue.members), len(queue.online)) for queue in found] == [(3, 3)] * 9


def test_streams_get_the_replicas_that_they_lack(three: Cluster, vhost: str, nodes: list[RecordedNode]) -> None:
    declare(three, vhost, "log", **{"x-queue-type": "stream", "x-initial-cluster-size": 1})
    declare(three, vhost, "whole", **{"x-queue-type": "stream"})
    assert add_replicas(three.broker, nodes) == {}
    found = [queue for queue in read_state(three.broker).queues if queue.vhost == vhost]
    assert [(len(queue.members), len(queue.online)) for queue in found] == [(3, 3)] * 2


def test_an_alarm_is_told_by_its_node_at_once(three: Cluster, nodes: list[RecordedNode]) -> None:
    nodes[1].run(["rabbitmqctl", "set_disk_free_limit", "100000GB"])
    try:
        for node in (nodes[0], nodes[2]):
            node.refuse_alarm()
        with pytest.raises(ClusterNotReady, match="disk space alarm on node rabbit@two"):
            nodes[1].refuse_alarm()
    finally:
        nodes[1].run(["rabbitmqctl", "set_disk_free_limit", "50MB"])
    nodes[1].refuse_alarm()
    # The management API forgets it seconds later, and the next tests ask that.
    eventually("no node has an alarm", lambda: not any(node.alarms for node in read_state(three.broker).nodes))


def test_a_command_that_fails_in_a_container_says_why(nodes: list[RecordedNode]) -> None:
    with pytest.raises(CommandFailed, match=r"`rabbitmqctl no_such_command` in .* failed \(status 64\)"):
        nodes[0].run(["rabbitmqctl", "no_such_command"])
