"""Faults of a platform's nodes under load, with TLS: nothing confirmed is lost, and publishing goes on soon.

All tests share one platform and one load that never stops: 200 confirmed messages a second into 18 queues, by three
publishing and three consuming clients. The bounds are for a machine on which a command of RabbitMQ starts within half
a second; on a slower one they grow as that does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import docker
import pytest

from kryonix.cluster.nodes import RecordedNode
from kryonix.messaging import MessagingClient
from kryonix.topology.catalog import default_catalog
from tests.support.cluster import Cluster
from tests.support.load import Load, load
from tests.support.project import Project, tenant

_MODULES: Final = tuple(default_catalog().modules)
_TENANT: Final = "load"
_VHOST: Final = f"/cliente_{_TENANT}"
_ROUTES: Final = [(name, action) for name in _MODULES for action in default_catalog().modules[name].actions][:18]
_FAULT_S: Final = 10.0
_DRAIN_S: Final = 3.0
_FROZEN_S: Final = 20.0

Measured = Callable[..., Any]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of three nodes with TLS, and a tenant with every module."""
    folder = tmp_path_factory.mktemp("faults") / "project"
    project = Project.platform(folder, tenant(_TENANT, *_MODULES))
    # With 512 MiB a node with this load is at its memory bound after a start, and an alarm blocks the publishers.
    project.configure(brokerNodes=3, brokerMemoryMb=1024, tls="true")
    with project.running():
        yield project


@pytest.fixture(scope="module")
def three(platform: Project) -> Iterator[Cluster]:
    """Return its nodes; each test leaves all of them running."""
    with closing(docker.from_env()) as client:
        yield Cluster.of(platform, client)


@pytest.fixture(scope="module")
def under_load(platform: Project) -> Iterator[Load]:
    file = platform.folder / "outputs.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(platform.outputs()))

    async def connect(**options: Any) -> MessagingClient:
        return await MessagingClient.connect(outputs=file, tenant=_TENANT, timeout=60, **options)

    with load(connect, _ROUTES) as running:
        yield running


@pytest.fixture(scope="module")
def slowness(three: Cluster, under_load: Load) -> float:
    """How many times slower this machine is than that of the bounds, measured under the load; at least 1."""
    return three.slowness()


@pytest.fixture
def publishing(
    three: Cluster, under_load: Load, slowness: float, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, float], Any]:
    """Return a context manager that asserts what became of the messages during a fault, and after it."""

    @contextmanager
    def measured(what: str, bound_s: float) -> Iterator[None]:
        three.spread(_VHOST)
        under_load.flows()
        under_load.mark()
        yield
        under_load.flows()
        outcome = under_load.outcome()
        with capsys.disabled():
            print(f"\n{what}: {outcome} (slowness {slowness:.1f})")
        assert outcome.intact, outcome
        assert outcome.gap_s <= bound_s * slowness, f"{what}: no confirmation for {outcome.gap_s:.1f} s"

    return measured


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_killed_node_interrupts_publishing_for_seconds_only(
    three: Cluster, under_load: Load, publishing: Measured, node: int
) -> None:
    """Each of them leads a third of the queues."""
    with publishing(f"kill of node {node + 1}", _FAULT_S):
        three.kill(node)
        try:
            under_load.flows()
        finally:
            three.start(node)


def test_a_frozen_node_is_left_while_it_is_frozen(three: Cluster, under_load: Load, publishing: Measured) -> None:
    with publishing(f"node 2 frozen for {_FROZEN_S:g} s", _FAULT_S):
        until = time.monotonic() + _FROZEN_S
        three.pause(1)
        try:
            under_load.flows()
            time.sleep(max(until - time.monotonic(), 0))
        finally:
            three.resume(1)


def test_a_node_that_is_cut_off_is_left(three: Cluster, under_load: Load, publishing: Measured) -> None:
    with publishing("node 3 cut off", _FAULT_S):
        three.cut(2)
        try:
            under_load.flows()
        finally:
            three.mend(2)


def test_the_minority_of_a_partition_is_left(three: Cluster, under_load: Load, publishing: Measured) -> None:
    """Clients still reach the node, which answers them, and can confirm nothing."""
    with publishing("partition 1 | 2", _FAULT_S):
        three.part(0)
        try:
            under_load.flows()
        finally:
            three.mend(0)


def test_two_killed_nodes_stop_publishing_until_one_is_back(
    three: Cluster, under_load: Load, publishing: Measured
) -> None:
    """Without a majority nothing can be confirmed; what was, is there when it is back."""
    with publishing("two of three killed and back", 60):
        three.kill(0)
        three.kill(1)
        three.start(0)
        three.start(1)


def test_a_drained_node_interrupts_publishing_for_a_moment(
    platform: Project, three: Cluster, under_load: Load, publishing: Measured
) -> None:
    """As `kryonix cluster roll` drains it."""
    second = RecordedNode.of(platform.outputs())[1]
    with publishing("drain, stop and start of node 2", _DRAIN_S):
        second.drain()
        three.nodes[1].stop()
        three.start(1)
