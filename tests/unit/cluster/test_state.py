"""What a cluster's state says: which queues are short of members, which would stop, what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kryonix.cluster.state import names_text
from tests.support.cluster_states import cluster_of, node_state, queue_on


@pytest.mark.parametrize(
    ("members", "online", "without", "stops"),
    [
        ("abc", "abc", "a", False),
        ("abc", "ab", "a", True),
        ("abc", "ab", "c", False),
        ("abcd", "abc", "d", False),
        ("a", "a", "a", True),
        ("a", "a", "b", False),
        ("ab", "ab", "a", True),
        ("abcde", "abcde", "a", False),
        ("abcde", "abc", "a", True),
        ("abc", "", "c", True),
    ],
)
def test_a_queue_stops_without_a_majority_of_its_members(members: str, online: str, without: str, stops: bool) -> None:
    assert queue_on(members, online).stops_without(f"rabbit@{without}") is stops


@pytest.mark.parametrize(("members", "online", "nodes"), [("a", "a", 3), ("abc", "ab", 3), ("a", "", 1)])
def test_a_queue_with_few_or_absent_members_is_short(members: str, online: str, nodes: int) -> None:
    found = cluster_of(queue_on(members, online), nodes=nodes)
    assert found.short() == list(found.queues)
    assert found.problems() != []


@pytest.mark.parametrize(("members", "nodes"), [("abc", 3), ("a", 1)])
def test_queues_with_all_their_members_online_are_healthy(members: str, nodes: int) -> None:
    assert cluster_of(queue_on(members), nodes=nodes).problems() == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"running": False}, "not running: rabbit@b"),
        ({"being_drained": True}, "in maintenance mode, serving no clients: rabbit@b"),
        ({"mem_alarm": True, "disk_free_alarm": True}, "alarms block publishers: rabbit@b (memory, disk)"),
        ({"rabbitmq_version": "4.3.7"}, "nodes have different versions: 4.3.6, 4.3.7"),
    ],
)
def test_a_node_that_is_not_well_is_named(changed: dict[str, object], problem: str) -> None:
    assert cluster_of(queue_on(), changed=[node_state("rabbit@b", **changed)]).problems() == [problem]


def test_a_node_that_is_down_has_neither_version_nor_alarms() -> None:
    down = node_state("rabbit@a", running=False, mem_alarm=True, mem_used=1)
    assert (down.version, down.uptime_s, down.alarms, down.memory) == (None, None, (), None)


def test_flags_that_are_not_enabled_are_a_problem() -> None:
    state = replace(cluster_of(), disabled_flags=["new_one"])
    assert state.problems() == ["stable feature flags not enabled: new_one"]


def test_many_queues_are_named_by_the_first_few() -> None:
    queues = [queue_on("ab", name=f"q{number}") for number in range(7)]
    assert names_text(queues, most=1) == "q0 in /v (2 of 2 online), 6 more"
    assert cluster_of(*queues).problems()[0].startswith("7 queues short of members: q0 in /v")
