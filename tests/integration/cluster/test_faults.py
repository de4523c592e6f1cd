"""Faults of a cluster's nodes under load: nothing confirmed is lost, and publishing goes on soon.

All tests share one cluster and one load that never stops: 200 confirmed messages a second into 18 queues, by three
publishing and three consuming clients. The bounds are for a machine on which a command of RabbitMQ starts within half
a second; on a slower one they grow as that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from kryonix.cluster.nodes import RecordedNode
from kryonix.messaging import MessagingClient
from kryonix.topology.catalog import default_catalog
from kryonix.topology.tenants import Tenant
from tests.support.cluster import Cluster
from tests.support.imported_tenant import import_tenant
from tests.support.load import Load, load

_MODULES: Final = tuple(default_catalog().modules)
_TENANT: Final = Tenant(id="load", modules=_MODULES, plan="enterprise")
_ROUTES: Final = [(name, action) for name in _MODULES for action in default_catalog().modules[name].actions][:18]
_FAULT_S: Final = 10.0
_DRAIN_S: Final = 3.0
_FROZEN_S: Final = 20.0

Measured = Callable[..., Any]


@pytest.fixture(scope="module")
def under_load(three: Cluster) -> Iterator[Load]:
    uri = import_tenant(three.broker, _TENANT, three.addresses[0])

    async def connect(**options: Any) -> MessagingClient:
        return await MessagingClient.connect(uri, addresses=three.addresses, timeout=60, **options)

    with load(connect, _ROUTES) as running:
        yield running
    three.broker.call("DELETE", "vhosts", _TENANT.names.vhost)
    three.broker.call("DELETE", "users", _TENANT.names.user)


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
        three.spread(_TENANT.names.vhost)
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
    three: Cluster, under_load: Load, publishing: Measured
) -> None:
    """As `kryonix cluster roll` drains it."""
    second = RecordedNode(number=2, name="rabbit@two", container=three.nodes[1].name, docker="")
    with publishing("drain, stop and start of node 2", _DRAIN_S):
        second.drain()
        three.nodes[1].stop()
        three.start(1)
