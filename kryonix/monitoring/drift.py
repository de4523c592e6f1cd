"""Drift of tenants, as far as the broker's user for metrics can see it.

That user lists vhosts with their limits, and by the metrics endpoint exchanges, queues and how many bindings an
exchange has. It sees no policies, users or permissions: `kryonix check` compares those.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.fleet.members import UNKNOWN_CELL, expanded
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.metrics import metric_lines
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import Catalog
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import tenant_of_vhost

_FAMILIES: Final = ("queue_consumer_count", "exchange_bindings")
_LINE: Final = re.compile(
    r"^rabbitmq_(detailed_queue_info|cluster_exchange_bindings)"
    r'\{vhost="((?:[^"\\]|\\.)*)",(?:queue|exchange)="((?:[^"\\]|\\.)*)",(?:queue_)?type="([^"]*)"[^}]*\} (\d+)'
)
_MAX_OBJECTS: Final = 1_000_000
"""Most queues and exchanges that are read of a broker."""
_READ_S: Final = 60
_SETTLED_S: Final = 30
"""Pause before a difference is read again: a change that is being applied is no drift."""


@dataclass(slots=True)
class Seen:
    """What the user for metrics sees of a broker, by vhost: queues by type, exchanges by type and bindings."""

    vhosts: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, Mapping[str, int]]
    queues: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    exchanges: defaultdict[str, dict[str, tuple[str, int]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, line: str) -> None:
        """Add the queue or exchange of a line of metrics, if it has one of a tenant."""
        match = _LINE.match(line)
        if match is None or tenant_of_vhost(match[2]) is None:
            return
        family, vhost, name, kind, value = match.groups()
        if family == "detailed_queue_info":
            self.queues[vhost][name] = kind
        elif not name.startswith("amq."):
            self.exchanges[vhost][name] = kind, int(value)


def drifted(topology: Topology, seen: Seen) -> bool:
    """Return True if the broker differs from a tenant's expansion."""
    vhost = seen.vhosts.get(topology.vhost)
    if vhost is None:
        return True
    limits = {"max-connections": topology.max_connections, "max-queues": topology.limits.max_queues}
    bound = Counter(binding.source for binding in topology.bindings)
    exchanges = {each.name: (each.type, bound[each.name]) for each in topology.exchanges}
    queues = {each.name: "rabbit_quorum_queue" for each in topology.queues}
    found = seen.queues.get(topology.vhost, {})
    if len(vhost.get("cluster_state") or ()) > 1:  # a node reports only the queues with a member on it
        queues = {name: kind for name, kind in queues.items() if name in found}
    return (
        dict(seen.limits.get(topology.vhost, {})) != limits
        or vhost["metadata"].get("default_queue_type") != "quorum"
        or bool(vhost["metadata"].get("tags"))
        or seen.exchanges.get(topology.vhost, {}) != exchanges
        or found != queues
    )


def read_seen(outputs: Mapping[str, Any], broker: Broker) -> Seen:
    """Read a broker as its user for metrics. Raises BrokerUnavailable if anything is missing in the answers."""
    vhosts, all_vhosts = broker.listed("vhosts", columns="name,metadata,cluster_state")
    limits, all_limits = broker.listed("vhost-limits")
    if not (all_vhosts and all_limits):
        raise BrokerUnavailable(f"the broker at {broker.url} has more vhosts than fit in an answer")
    seen = Seen(
        vhosts={each["name"]: each for each in vhosts}, limits={each["vhost"]: each["value"] for each in limits}
    )
    for count, line in enumerate(metric_lines(outputs, *_FAMILIES, read_s=_READ_S)):
        if count > _MAX_OBJECTS:
            raise BrokerUnavailable(f"the metrics of the broker at {broker.url} have over {_MAX_OBJECTS:,} lines")
        seen.add(line)
    return seen


class DriftReader:
    """Reads which tenants of a cell differ from their expansion."""

    def __init__(
        self,
        cell: str,
        tenants: Callable[[], Iterable[DesiredState]],
        seen: Callable[[], Seen],
        catalog: Catalog,
        *,
        alone: bool,
    ) -> None:
        """`alone` says that the registry has no other cell, whose tenants these might be."""
        self._cell, self._tenants, self._seen = cell, tenants, seen
        self._catalog, self._alone = catalog, alone

    def read(self, wait: Callable[[float], object] = time.sleep) -> list[Metric]:
        """Return the drift of every tenant that can be judged. A difference counts if a second reading has it too."""
        found = self._judge()
        if any(found.values()):
            wait(_SETTLED_S)
            found = {tenant: differs and found[tenant] for tenant, differs in self._judge().items() if tenant in found}
        family = GaugeMetricFamily(
            "kryonix_tenant_drifted", "1 if the broker differs from the tenant's expansion.", labels=["cliente_id"]
        )
        for tenant, differs in found.items():
            family.add_metric([tenant], differs)
        return [family]

    def _judge(self) -> dict[str, bool]:
        seen, found = self._seen(), dict[str, bool]()
        for state in self._tenants():
            topology = self._expanded(state, seen)
            if topology is not None:
                found[state.cliente_id] = drifted(topology, seen)
        return found

    def _expanded(self, state: DesiredState, seen: Seen) -> Topology | None:
        """Return what a tenant of this cell should have; None if unknown, or while an operation changes it."""
        if state.cell not in (self._cell, UNKNOWN_CELL) or not state.converged or state.stage == "removing":
            return None
        topology, _ = expanded(state, self._catalog)
        elsewhere = state.cell == UNKNOWN_CELL and not self._alone
        return None if topology is None or (elsewhere and topology.vhost not in seen.vhosts) else topology
