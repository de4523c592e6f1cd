"""To which size a broker grows, what it needs, and which queue gets its next member where."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from kryonix.cluster import members, roll
from kryonix.cluster.errors import CommandFailed
from kryonix.cluster.growth import Room, is_free, target_size
from kryonix.cluster.members import add_replicas, additions
from kryonix.cluster.nodes import RecordedNode
from kryonix.errors import InvalidChoice
from tests.support.cluster_states import cluster_of, node_state, queue_on, recorded

CONTAINER = "docker:index/container:Container"
PORTS = [{"internal": 5672, "ip": "127.0.0.1", "external": 5672}, {"internal": 15672, "external": 15672}]


@pytest.mark.parametrize(
    ("before", "wanted", "size"), [(1, None, 3), (1, 3, 3), (1, 5, 5), (3, None, 3), (3, 5, 5), (5, None, 5)]
)
def test_a_broker_grows_to_three_nodes_unless_told_otherwise(before: int, wanted: int | None, size: int) -> None:
    """So a command that is run again after it was killed does not go on to five."""
    assert target_size(before, wanted) == size


@pytest.mark.parametrize(
    ("before", "wanted", "problem"), [(3, 2, "not a size"), (1, 1, "not a size"), (3, 1, "can't shrink")]
)
def test_a_size_that_is_none_or_smaller_is_refused(before: int, wanted: int, problem: str) -> None:
    with pytest.raises(InvalidChoice, match=problem):
        target_size(before, wanted)


def test_the_next_member_goes_where_the_fewest_are() -> None:
    first, second = queue_on("a", name="first"), queue_on("a", name="second")
    chosen = additions(cluster_of(first, second, queue_on("abc", name="whole")))
    assert sorted(chosen.values()) == ["rabbit@b", "rabbit@c"]
    assert {queue.name for queue in chosen} == {"first", "second"}


def test_no_member_goes_to_a_node_that_does_not_serve() -> None:
    absent = [node_state("rabbit@b", running=False), node_state("rabbit@c", being_drained=True)]
    assert additions(cluster_of(queue_on("a"), changed=absent)) == {}


def test_five_nodes_want_three_members_of_a_queue() -> None:
    assert additions(cluster_of(queue_on("abc"), nodes=5)) == {}


def test_a_stream_that_gets_no_replica_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Sequence[str]]()

    def refuse(node: RecordedNode, command: Sequence[str]) -> str:
        asked.append(command)
        raise CommandFailed("no such node")

    state = cluster_of(queue_on("a", name="log", type="stream"), queue_on("a", name="not a stream"))
    monkeypatch.setattr(RecordedNode, "run", refuse)
    monkeypatch.setattr(members, "read_state", lambda broker: state)
    monkeypatch.setattr(roll, "read_state", lambda broker: state)
    broker: Any = None
    assert add_replicas(broker, recorded()) == {"log in /v": "no such node"}
    assert [command[-1] for command in asked] == ["rabbit@b", "rabbit@c"]


def test_new_nodes_need_the_ports_of_the_first_ten_apart() -> None:
    resources = [
        {"urn": name, "type": CONTAINER, "inputs": {"name": name, "memory": 512, "ports": PORTS}}
        for name in ("first", "first-3")
    ]
    room = Room.of({"deployment": {"resources": resources}}, "first", 3)
    assert room.memory == 512 * 2**20
    assert room.ports == {"first-2": [("127.0.0.1", 5682), ("0.0.0.0", 15682)]}  # the third is there


def test_only_a_port_that_is_in_use_is_not_free() -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        assert not is_free("127.0.0.1", used.getsockname()[1])
    for address, port in (("192.0.2.1", 5682), ("::1", 0), ("127.0.0.1", 65_546)):
        assert is_free(address, port), "the address is another machine's, or the program refuses the number"
