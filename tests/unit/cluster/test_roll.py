"""Which nodes a roll replaces, in which order, and when it refuses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext

import pytest

from kryonix.cluster import nodes, roll
from kryonix.cluster.errors import OperationStopped
from kryonix.cluster.nodes import ROLL_VARIABLE, RecordedNode
from kryonix.cluster.roll import Roll, due_nodes, finish, in_order, is_back, refusals
from kryonix.cluster.state import ClusterState, NodeState
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Op, Step
from tests.support.cluster_states import cluster_of, node_state, queue_on, recorded

NODES = recorded()
DOWN, DRAINED = node_state("rabbit@b", running=False), node_state("rabbit@b", being_drained=True)
REFUSE_ALARM = RecordedNode.refuse_alarm
CONTAINER = "docker:index/container:Container"


def deployment(*containers: str) -> dict[str, object]:
    found = [{"urn": f"urn:{name}", "type": CONTAINER, "inputs": {"name": name}} for name in containers]
    return {"deployment": {"resources": found}}


def steps(**ops: Op) -> list[Step]:
    return [Step(f"urn:node-{letter}", letter, CONTAINER, op) for letter, op in ops.items()]


def test_nodes_whose_containers_change_are_due() -> None:
    found = due_nodes(steps(a="same", b="replace", c="update"), deployment("node-a", "node-b", "node-c"), NODES)
    assert found == NODES[1:]


def test_a_node_whose_container_the_state_has_lost_is_due() -> None:
    assert due_nodes(steps(a="same"), deployment("node-a", "node-c"), NODES) == [NODES[1]]


def test_a_whole_cluster_with_whole_queues_is_not_refused() -> None:
    assert refusals(cluster_of(queue_on("abc"), queue_on("abc", type="stream")), NODES, NODES) == []


@pytest.mark.parametrize(
    ("state", "due", "problem"),
    [
        (cluster_of(queue_on("a", name="lonely")), NODES, "1 queue would stop without one of the nodes: lonely in /v"),
        (cluster_of(queue_on("ab", name="pair")), NODES[:1], "pair in /v (2 of 2 online)"),
        (cluster_of(queue_on("abc", "ab")), NODES[:1], "1 queue would stop"),
        (cluster_of(queue_on(), changed=[node_state("rabbit@c", mem_alarm=True)]), NODES[:1], "rabbit@c (memory)"),
        (cluster_of(queue_on(), changed=[DOWN]), NODES[:1], "docker start node-b"),
        (cluster_of(queue_on(), changed=[DRAINED]), NODES[:1], "docker exec node-b rabbitmq-upgrade revive"),
        (cluster_of(nodes=2), NODES[:1], "node-c does not run"),
    ],
)
def test_a_cluster_that_can_lose_no_node_is_refused(
    state: ClusterState, due: Sequence[RecordedNode], problem: str
) -> None:
    (found,) = refusals(state, NODES, due)
    assert problem in found


def test_a_queue_without_a_member_on_the_node_does_not_refuse_it() -> None:
    assert refusals(cluster_of(queue_on("c")), NODES, NODES[:2]) == []


@pytest.mark.parametrize("left", [DOWN, DRAINED], ids=["down", "drained"])
def test_a_node_that_a_roll_has_left_comes_first(left: object) -> None:
    state = cluster_of(queue_on("abc", "ac"), changed=[left])  # type: ignore[list-item]
    assert refusals(state, NODES, NODES) == []
    assert [node.number for node in in_order(state, NODES)] == [2, 1, 3]


def test_an_alarm_of_a_node_is_no_reason_to_keep_it() -> None:
    """Other limits come with another container only."""
    assert refusals(cluster_of(queue_on(), changed=[node_state("rabbit@c", mem_alarm=True)]), NODES, NODES) == []


def test_two_nodes_down_are_refused_even_if_both_are_due() -> None:
    state = cluster_of(changed=[DOWN, node_state("rabbit@c", running=False)])
    assert len(refusals(state, NODES, NODES)) == 2


def test_a_node_is_back_once_its_members_are_online() -> None:
    assert not is_back(cluster_of(queue_on("abc", "ac")), NODES[1])
    assert not is_back(cluster_of(queue_on(), changed=[DRAINED]), NODES[1])
    assert is_back(cluster_of(queue_on(), queue_on("ac")), NODES[1])


class Recording:
    """An engine and a broker's API that note what is asked of them."""

    def __init__(self, fail: str = "") -> None:
        self.fail, self.calls = fail, list[str]()

    def up(self, spec: StackSpec, on_event: object) -> None:
        self.calls.append(f"up {os.environ[ROLL_VARIABLE]}")
        if os.environ[ROLL_VARIABLE] == self.fail:
            raise EngineFailed("no such image")

    def call(self, method: str, *path: str, **options: object) -> None:
        self.calls.append(f"{method} {'/'.join(path)}")


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    found = Recording()
    for command in ("drain", "revive", "refuse_alarm"):
        note = lambda node, command=command: found.calls.append(f"{command} {node.number}")  # noqa: E731
        monkeypatch.setattr(RecordedNode, command, note)
    return found


def rolling(recording: Recording, monkeypatch: pytest.MonkeyPatch, state: ClusterState) -> Roll:
    monkeypatch.setattr(roll, "read_state", lambda broker: state)
    return Roll(
        engine=recording,  # type: ignore[arg-type]
        spec=StackSpec(name="dev"),
        connect=lambda: nullcontext(recording),  # type: ignore[arg-type]
        on_stage=lambda text: None,
    )


def test_each_node_is_drained_and_then_replaced(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    rolling(recording, monkeypatch, cluster_of(queue_on())).run(NODES[1:], NODES[:1])
    expected = ["drain 2", "up 2+1", "refuse_alarm 2", "drain 3", "up 3+1,2", "refuse_alarm 3"]
    assert recording.calls == expected
    assert ROLL_VARIABLE not in os.environ


def test_the_first_failure_stops_a_roll_and_lets_the_node_serve(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.fail = "1"
    state = cluster_of(queue_on(), changed=[node_state("rabbit@a", being_drained=True)])
    with pytest.raises(OperationStopped, match=r"stopped at node-a, with 0 of 3 nodes done: no such image"):
        rolling(recording, monkeypatch, state).run(NODES, [])
    assert recording.calls == ["drain 1", "up 1", "revive 1"]


def test_a_node_that_comes_back_with_an_alarm_stops_a_roll(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would get the limits that block publishers, too."""
    said = '{"global":[],"local":["Free disk space alarm on node rabbit@a"],"result":"ok"}'  # RabbitMQ 4.3.6
    monkeypatch.setattr(RecordedNode, "refuse_alarm", REFUSE_ALARM)
    answers = iter(["", said])  # Docker may lose the first
    monkeypatch.setattr(RecordedNode, "run", lambda node, command: next(answers))
    with pytest.raises(OperationStopped, match=r"stopped at node-a, with 0 of 3 nodes done: it has an alarm.*disk"):
        rolling(recording, monkeypatch, cluster_of(queue_on())).run(NODES, [])
    assert recording.calls == ["drain 1", "up 1"]


@pytest.mark.parametrize(
    "said",
    [
        '{"message":"Node rabbit@a reported no alarms, local or clusterwide","result":"ok"}',
        '{"global":["Memory alarm on node rabbit@b"],"local":[],"result":"ok"}',
    ],
)
def test_a_node_without_an_alarm_of_its_own_is_not_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordedNode, "run", lambda node, command: said)
    NODES[0].refuse_alarm()


class _Interrupted:
    """Docker's API, interrupted while a command runs in a container."""

    def __init__(self) -> None:
        self.running = [True, True, False]

    def exec_create(self, *_: object, **__: object) -> dict[str, str]:
        return {"Id": "1"}

    def exec_start(self, _: str) -> bytes:
        raise KeyboardInterrupt

    def exec_inspect(self, _: str) -> dict[str, object]:
        return {"Running": self.running.pop(0), "ExitCode": None}


def test_an_interrupt_waits_for_the_command_in_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a node that is revived then would go on to be drained."""
    client = _Interrupted()
    monkeypatch.setattr(RecordedNode, "docker_host", lambda node: nullcontext(client))
    monkeypatch.setattr(nodes, "_POLL_S", 0)
    with pytest.raises(KeyboardInterrupt):
        NODES[0].run(["rabbitmq-upgrade", "drain"])
    assert client.running == []


@pytest.mark.parametrize("other", [DOWN, DRAINED], ids=["down", "drained"])
def test_no_node_goes_while_another_serves_nobody(
    other: NodeState, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no queue would notice: two of three nodes away are the majority, and a second roll may be going on."""
    monkeypatch.setattr(roll, "_TURN_S", 0)
    with pytest.raises(OperationStopped, match="rabbit@b serves no clients"):
        rolling(recording, monkeypatch, cluster_of(changed=[other])).run(NODES[:1], [])
    assert recording.calls == []


def test_a_node_that_goes_while_another_is_drained_keeps_that_one(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rolls on two machines may both have seen all nodes serve."""
    states = iter([cluster_of(), cluster_of()])
    drained = node_state("rabbit@a", being_drained=True)
    rolled = rolling(recording, monkeypatch, cluster_of())
    monkeypatch.setattr(roll, "read_state", lambda broker: next(states, cluster_of(changed=[drained, DRAINED])))
    with pytest.raises(OperationStopped, match=r"rabbit@b stopped serving clients meanwhile\. Another roll may be"):
        rolled.run(NODES[:1], [])
    assert recording.calls == ["drain 1", "revive 1"]


def test_flags_stay_as_they_are_while_versions_differ(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    flagged = ClusterState(nodes=cluster_of().nodes, queues=(), disabled_flags=["new"])
    mixed = cluster_of(changed=[node_state("rabbit@a", rabbitmq_version="4.3.7")])
    for state, enabled in ((flagged, ["new"]), (ClusterState(nodes=mixed.nodes, queues=(), disabled_flags=["n"]), [])):
        monkeypatch.setattr(roll, "read_state", lambda broker, state=state: state)
        assert finish(recording) == enabled  # type: ignore[arg-type]
    assert recording.calls == ["PUT feature-flags/new/enable", "POST rebalance/queues", "POST rebalance/queues"]
