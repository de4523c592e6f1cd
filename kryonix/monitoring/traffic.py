"""What goes through each tenant's vhost now: depth, rates, consumers and connections, in three calls per broker."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.naming import Names, tenant_of_vhost

_QUEUES: Final = "vhost,name,messages_ready,messages_unacknowledged,consumers"
_RETRY: Final = re.compile(r"\.retry\.\d+$")


@dataclass(slots=True)
class Traffic:
    """A vhost's messages, rates (per second), consumers and connections. Counts may be five seconds old."""

    ready: int = 0
    """Messages that a consumer would get now; no dead letters."""
    depth: int = 0
    """Messages waiting, delivered or delayed; no dead letters."""
    deepest: int = 0
    """The depth of its deepest queue."""
    dead: int = 0
    """Dead letters, and messages that reached no queue."""
    queues: int = 0
    consumers: int = 0
    connections: int = 0
    channels: int = 0
    publish_rate: float = 0.0
    deliver_rate: float = 0.0

    @property
    def estimated_wait_s(self) -> float | None:
        """Return the time to deliver what is ready at the current rate; None if nothing is delivered."""
        if not self.ready:
            return 0.0
        return self.ready / self.deliver_rate if self.deliver_rate else None

    def add(self, queue: Mapping[str, Any], unrouted: str) -> None:
        """Count a queue of the management API. A new queue without figures counts as empty."""
        name, ready = str(queue["name"]), queue.get("messages_ready") or 0
        depth = ready + (queue.get("messages_unacknowledged") or 0)
        self.queues += 1
        if name.endswith(".dlq") or name == unrouted:
            self.dead += depth
            return
        self.consumers += queue.get("consumers") or 0
        self.depth += depth
        self.deepest = max(self.deepest, depth)
        if not _RETRY.search(name):
            self.ready += ready


def read_traffic(broker: Broker) -> dict[str, Traffic]:
    """Return the traffic of every tenant's vhost, by tenant. Raises BrokerUnavailable, also for lists above 16 MiB."""
    lists = {
        "vhosts": broker.listed("vhosts", columns="name,message_stats"),
        "queues": broker.listed("queues", columns=_QUEUES),
        "connections": broker.listed("connections", columns="vhost,channels"),
    }
    if cut := [name for name, (_, whole) in lists.items() if not whole]:
        problem = f"has more {cut[0]} than fit in an answer"
        raise BrokerUnavailable(f"the broker at {broker.url} {problem}. Spread its tenants over cells", problem)
    return tally(*(entries for entries, _ in lists.values()))


def tally(
    vhosts: Iterable[Mapping[str, Any]], queues: Iterable[Mapping[str, Any]], connections: Iterable[Mapping[str, Any]]
) -> dict[str, Traffic]:
    """Return the traffic by tenant from the management API's lists."""
    by_vhost: dict[str, Traffic] = {}
    for vhost in vhosts:
        if tenant_of_vhost(vhost["name"]) is not None:
            rates = vhost.get("message_stats") or {}
            by_vhost[vhost["name"]] = Traffic(
                publish_rate=_rate(rates, "publish_details"), deliver_rate=_rate(rates, "deliver_get_details")
            )
    unrouted = {vhost: Names(str(tenant_of_vhost(vhost))).unrouted for vhost in by_vhost}
    for queue in queues:
        if (traffic := by_vhost.get(queue["vhost"])) is not None:
            traffic.add(queue, unrouted[queue["vhost"]])
    opened, channels = count_opened(connections)
    for name, traffic in by_vhost.items():
        traffic.connections, traffic.channels = opened[name], channels[name]
    return {str(tenant_of_vhost(name)): traffic for name, traffic in by_vhost.items()}


def count_opened(connections: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Return how many connections and channels are open in each vhost, from the management API's list."""
    opened, channels = Counter[str](), Counter[str]()
    for connection in connections:
        opened[connection.get("vhost", "")] += 1
        channels[connection.get("vhost", "")] += connection.get("channels") or 0
    return opened, channels


def _rate(rates: Mapping[str, Any], name: str) -> float:
    return float((rates.get(name) or {}).get("rate") or 0.0)
