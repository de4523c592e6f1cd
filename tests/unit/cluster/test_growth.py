"""To which size a broker grows, what it needs, and which queue gets its next member where."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from kryonix.cluster import growth, members, roll
from kryonix.cluster.errors import ClusterNotReady, CommandFailed
from kryonix.cluster.growth import Room, answers, is_free, refuse_crowded, target_size
from kryonix.cluster.members import add_replicas, additions
from kryonix.cluster.nodes import RecordedNode
from kryonix.errors import InvalidChoice
from tests.support.cluster_states import cluster_of, node_state, queue_on, recorded

CONTAINER = "docker:index/container:Container"
PORTS: list[dict[str, Any]] = [
    {"internal": 5672, "ip": "127.0.0.1", "external": 5672},
    {"internal": 15672, "external": 15672},
]


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


FIRST = RecordedNode(number=1, name="rabbit@first", container="first", docker="")
HOSTS = [{"address": f"10.0.0.{n}", "docker": f"ssh://ops@10.0.0.{n}" if n > 1 else ""} for n in (1, 2, 3)]


def deployment(*names: str, ports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    inputs = {"memory": 512, "ports": ports}
    resources = [{"urn": name, "type": CONTAINER, "inputs": {"name": name, **inputs}} for name in names]
    return {"deployment": {"resources": resources}}


def test_new_nodes_need_the_ports_of_the_first_ten_apart() -> None:
    (room,) = Room.of(deployment("first", "first-3", ports=PORTS), FIRST, 3)
    assert (room.host, room.nodes, room.memory) == (FIRST, 3, 512 * 2**20)
    assert room.ports == {"first-2": [("127.0.0.1", 5682), ("0.0.0.0", 15682)]}  # the third is there


def test_a_new_machine_needs_room_for_its_own_node() -> None:
    """At its own address, and for the ports between nodes, which a node alone did not publish."""
    ports = [{"ip": "10.0.0.1", "external": 5672}, {"ip": "127.0.0.1", "external": 9419}]
    second, third = Room.of(deployment("first", ports=ports), FIRST, 3, HOSTS)
    assert (second.nodes, second.host.docker, third.host.docker) == (1, HOSTS[1]["docker"], HOSTS[2]["docker"])
    own = [("10.0.0.2", 5672), ("127.0.0.1", 9419), ("10.0.0.2", 4369), ("10.0.0.2", 25672)]
    assert second.ports == {"first-2": own}


class Machine:
    """A Docker host with a container that publishes a port."""

    def __init__(self, memory: int, ip: str, port: int, name: str = "/other") -> None:
        self.memory, self.published = memory, {"Names": [name], "Ports": [{"IP": ip, "PublicPort": port}]}

    def info(self) -> dict[str, int]:
        return {"MemTotal": self.memory}

    def containers(self, *, all: bool) -> list[dict[str, Any]]:
        return [self.published]


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (Machine(2**30, "0.0.0.0", 5672), "port 5672 of ssh://ops@10.0.0.2 is in use, and first-2 would publish it"),
        (Machine(2**30, "127.0.0.1", 9419), "port 9419 of ssh://ops@10.0.0.2 is in use"),
        (Machine(2**28, "10.0.0.9", 5672), r"1 node\(s\) of 512 MiB each exceed the 256 MiB of ssh://ops@10.0.0.2"),
        (Machine(2**30, "10.0.0.9", 5672), ""),
        (Machine(2**30, "0.0.0.0", 5672, "/first-2"), ""),
    ],
    ids=["a container", "on loopback", "little memory", "another address", "a killed run's"],
)
def test_a_machine_without_room_is_refused(machine: Machine, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordedNode, "docker_host", lambda node: nullcontext(machine))
    monkeypatch.setattr(growth, "answers", lambda address, port: False)
    ports = [{"ip": "10.0.0.1", "external": 5672}, {"ip": "127.0.0.1", "external": 9419}]
    rooms = Room.of(deployment("first", "first-3", ports=ports), FIRST, 3, HOSTS)
    with pytest.raises(ClusterNotReady, match=problem) if problem else nullcontext():
        refuse_crowded(rooms, 3)


def test_another_machines_program_is_seen_at_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        assert not answers("127.0.0.1", port), "that is this machine's loopback"
    assert not answers("192.0.2.1", 1)


def test_only_a_port_that_is_in_use_is_not_free() -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        assert not is_free("127.0.0.1", used.getsockname()[1])
    for address, port in (("192.0.2.1", 5682), ("::1", 0), ("127.0.0.1", 65_546)):
        assert is_free(address, port), "the address is another machine's, or the program refuses the number"
