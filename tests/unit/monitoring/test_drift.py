"""Which tenants differ from their expansion, by what the user for metrics sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kryonix.fleet.members import UNKNOWN_CELL
from kryonix.monitoring.drift import DriftReader, Seen, drifted
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME = DesiredState(cliente_id="acme", modules=("crm",), plan="basic", applied_at=NOW, updated_at=NOW)
VHOST = Names("acme").vhost
TOPOLOGY = expand(Tenant(id="acme", modules=("crm",), plan="basic"), default_catalog())


def as_declared(*topologies: Topology) -> Seen:
    """Return a broker with what these tenants should have, read from its own lines of metrics."""
    seen = Seen(vhosts={}, limits={})
    vhosts, limits = {}, {}
    for topology in topologies or (TOPOLOGY,):
        name = topology.vhost
        metadata = {"default_queue_type": "quorum", "tags": []}
        vhosts[name] = {"name": name, "metadata": metadata, "cluster_state": {"rabbit@one": "running"}}
        limits[name] = {"max-queues": topology.limits.max_queues, "max-connections": topology.max_connections}
        bound = Counter(each.source for each in topology.bindings)
        for exchange in topology.exchanges:
            labels = f'vhost="{name}",exchange="{exchange.name}",type="{exchange.type}"'
            seen.add(f"rabbitmq_cluster_exchange_bindings{{{labels}}} {bound[exchange.name]}")
        for queue in topology.queues:
            labels = f'vhost="{name}",queue="{queue.name}",queue_type="rabbit_quorum_queue",membership="leader"'
            seen.add(f"rabbitmq_detailed_queue_info{{{labels}}} 1")
            seen.add(f'rabbitmq_detailed_queue_consumers{{vhost="{name}",queue="{queue.name}"}} 0')
    seen.vhosts, seen.limits = vhosts, limits
    return seen


def no_vhost(seen: Seen) -> None:
    seen.vhosts = {}


def other_limit(seen: Seen) -> None:
    seen.limits = {VHOST: {**seen.limits[VHOST], "max-queues": 7}}


def no_limit(seen: Seen) -> None:
    seen.limits = {}


def queue_missing(seen: Seen) -> None:
    seen.queues[VHOST].popitem()


def queue_added(seen: Seen) -> None:
    seen.queues[VHOST]["own"] = "rabbit_quorum_queue"


def queue_of_another_type(seen: Seen) -> None:
    seen.queues[VHOST][TOPOLOGY.queues[0].name] = "rabbit_classic_queue"


def exchange_missing(seen: Seen) -> None:
    seen.exchanges[VHOST].popitem()


def binding_missing(seen: Seen) -> None:
    name = TOPOLOGY.bindings[0].source
    kind, count = seen.exchanges[VHOST][name]
    seen.exchanges[VHOST][name] = kind, count - 1


CHANGES: tuple[Callable[[Seen], None], ...] = (
    no_vhost,
    other_limit,
    no_limit,
    queue_missing,
    queue_added,
    queue_of_another_type,
    exchange_missing,
    binding_missing,
)


def test_a_broker_as_declared_has_not_drifted() -> None:
    assert not drifted(TOPOLOGY, as_declared())


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_drift(change: Callable[[Seen], None]) -> None:
    seen = as_declared()
    change(seen)
    assert drifted(TOPOLOGY, seen)


def test_a_suspended_tenants_limit_is_that_of_no_connections() -> None:
    suspended = replace(TOPOLOGY, tenant=TOPOLOGY.tenant.model_copy(update={"status": "suspended"}))
    assert drifted(suspended, as_declared())
    assert not drifted(suspended, as_declared(suspended))


def test_a_node_of_a_cluster_need_not_have_every_queue() -> None:
    seen = as_declared()
    queue_missing(seen)
    seen.vhosts = {VHOST: {**seen.vhosts[VHOST], "cluster_state": {"rabbit@one": "running", "rabbit@two": "running"}}}
    assert not drifted(TOPOLOGY, seen)


def test_exchanges_of_the_broker_and_other_vhosts_are_left_out() -> None:
    seen = as_declared()
    seen.add(f'rabbitmq_cluster_exchange_bindings{{vhost="{VHOST}",exchange="amq.topic",type="topic"}} 0')
    seen.add('rabbitmq_detailed_queue_info{vhost="/",queue="q",queue_type="rabbit_quorum_queue",membership="leader"} 1')
    assert not drifted(TOPOLOGY, seen)
    assert "/" not in seen.queues


def figures(states: Iterable[DesiredState], *readings: Seen, alone: bool = True) -> dict[str, float]:
    """Return the drift by tenant over these readings of the broker."""
    left = iter(readings)
    reader = DriftReader("main", lambda: states, lambda: next(left), default_catalog(), alone=alone)
    (family,) = reader.read(wait=lambda seconds: None)
    return {each.labels["cliente_id"]: each.value for each in family.samples}


def changed(change: Callable[[Seen], None] = queue_added) -> Seen:
    seen = as_declared()
    change(seen)
    return seen


def test_a_difference_counts_if_it_is_still_there() -> None:
    assert figures([ACME], as_declared()) == {"acme": 0}
    assert figures([ACME], changed(), changed()) == {"acme": 1}
    assert figures([ACME], changed(), as_declared()) == {"acme": 0}


@pytest.mark.parametrize(
    "state",
    [
        replace(ACME, applied_at=None),
        replace(ACME, cell="other"),
        replace(ACME, plan="sold no more"),
        replace(ACME, status="removed", remove_after=NOW),
    ],
)
def test_a_tenant_that_cannot_be_judged_is_absent(state: DesiredState) -> None:
    assert figures([state], as_declared()) == {}


def test_a_tenant_of_a_list_is_judged_where_its_vhost_is() -> None:
    listed, missing = replace(ACME, cell=UNKNOWN_CELL), changed(no_vhost)
    assert figures([listed], as_declared(), alone=False) == {"acme": 0}
    assert figures([listed], missing, alone=False) == {}
    assert figures([listed], missing, missing) == {"acme": 1}
