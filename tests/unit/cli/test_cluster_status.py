"""`kryonix cluster status`: what it prints of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from kryonix.checks.certificates import SOON_DAYS
from kryonix.cli.cluster import status_json, status_report
from kryonix.cluster.state import ClusterState, NodeState, ReplicatedQueue

URL = "https://broker.example:15671"


def state(*, running: bool = True) -> ClusterState:
    """Return three nodes with a queue; the second runs or not."""
    states = {"rabbit@a": True, "rabbit@b": running, "rabbit@c": True}
    entry = {"vhost": "/v", "name": "q", "type": "quorum", "leader": "rabbit@a", "members": [*states]}
    return ClusterState(
        nodes=[NodeState.of({"name": name, "running": up, "rabbitmq_version": "4.3.6"}) for name, up in states.items()],
        queues=[ReplicatedQueue.of({**entry, "online": [name for name, up in states.items() if up]})],
        disabled_flags=(),
    )


def shown(found: Mapping[str, Any]) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(*status_report(found, console))
    return captured.get()


def test_a_healthy_cluster_is_said_to_be() -> None:
    found = status_json(state(), {}, {})
    assert found["healthy"]
    text = shown(found)
    assert "3 of 3 node(s) running" in text
    assert "Healthy." in text


def test_a_node_that_is_down_and_its_queues_are_shown() -> None:
    found = status_json(state(running=False), {}, {})
    assert (found["healthy"], found["short_queues"][0]["online"]) == (False, ["rabbit@a", "rabbit@c"])
    text = shown(found)
    assert "not running: rabbit@b" in text
    assert "2 online of 3" in text


@pytest.mark.parametrize(("days", "healthy"), [(SOON_DAYS + 1, True), (SOON_DAYS, False), (-1, False)])
def test_a_certificate_that_expires_soon_is_a_problem(days: int, healthy: bool) -> None:
    expires = datetime.now(UTC) + timedelta(days=days)
    outputs = {"broker_nodes": [{"name": "rabbit@a", "container": "c", "management": URL, "image": "i"}]}
    found = status_json(state(), outputs, {URL: expires})
    assert found["healthy"] is healthy
    assert (found["nodes"][0]["certificate_expires"], found["nodes"][0]["container"]) == (expires, "c")
    assert [problem.split(" expires")[0] for problem in found["problems"]] == (
        [] if healthy else ["the certificate of broker.example:15671"]
    )
