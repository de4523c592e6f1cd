"""Actual usage of a cell's broker by vhost, in five calls to its management API for any number of tenants."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kryonix.rabbitmq.broker import LIVE_TOTALS, Broker
from kryonix.rabbitmq.client import BrokerUnavailable

_ALIVE_S: Final = 10
"""Time limit of a first call in seconds, before the long lists are requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VhostUse:
    """A vhost's current usage. Message counts may be five seconds old.

    `max_connections` is the vhost's limit, None without one.
    """

    queues: int = 0
    messages: int = 0
    connections: int = 0
    max_connections: int | None = None
    max_bytes: int = 0
    """Sum of the queues' max-length-bytes. A queue without this limit counts 0."""

    @property
    def promised_connections(self) -> int:
        """Return the allowed connections, or the open ones if there are more."""
        return max(self.connections, self.max_connections or 0)


def read_cell(cell: str, outputs: Mapping[str, Any]) -> dict[str, VhostUse]:
    """Return usage by vhost, from the outputs of the cell's platform. Raises BrokerUnavailable."""
    try:
        Broker.of(outputs, connect_s=3, read_s=_ALIVE_S).get("whoami")
        return ask(Broker.of(outputs, connect_s=3, read_s=60))
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"cell {cell!r}: {error}") from error


def ask(broker: Broker) -> dict[str, VhostUse]:
    """Return usage by vhost. Raises BrokerUnavailable."""
    queues = broker.get("queues", **LIVE_TOTALS)
    connections = broker.get("connections", columns="vhost")
    limits = broker.get("vhost-limits")
    policies = broker.get("policies") + broker.get("operator-policies")
    return _count(queues, connections, limits, _most_bytes(queues, policies))


def _most_bytes(queues: list[dict[str, Any]], policies: list[dict[str, Any]]) -> Mapping[str, int]:
    """Return the sum of the queues' max-length-bytes by vhost."""
    bounding: defaultdict[str, list[tuple[re.Pattern[str], int]]] = defaultdict(list)
    for policy in policies:
        if (most := policy["definition"].get("max-length-bytes")) is not None:
            bounding[policy["vhost"]].append((re.compile(policy["pattern"]), most))
    total: Counter[str] = Counter()
    for queue in queues:
        bounds = [most for pattern, most in bounding[queue["vhost"]] if pattern.search(queue["name"])]
        total[queue["vhost"]] += min(bounds, default=0)
    return total


def _count(
    queues: list[dict[str, Any]],
    connections: list[dict[str, Any]],
    limits: list[dict[str, Any]],
    most_bytes: Mapping[str, int],
) -> dict[str, VhostUse]:
    declared = Counter(queue["vhost"] for queue in queues)
    messages: Counter[str] = Counter()
    for queue in queues:
        messages[queue["vhost"]] += queue.get("messages", 0)
    opened = Counter(connection["vhost"] for connection in connections if "vhost" in connection)
    allowed = {limit["vhost"]: limit["value"].get("max-connections", -1) for limit in limits}
    return {
        vhost: VhostUse(
            queues=declared[vhost],
            messages=messages[vhost],
            connections=opened[vhost],
            max_connections=most if (most := allowed.get(vhost, -1)) >= 0 else None,  # -1 means no limit
            max_bytes=most_bytes.get(vhost, 0),
        )
        for vhost in {*declared, *opened, *allowed}
    }
