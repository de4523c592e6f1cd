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
        return _ask(Broker.of(outputs, connect_s=3, read_s=60))
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"cell {cell!r}: {error}") from error


def _ask(broker: Broker) -> dict[str, VhostUse]:
    queues = broker.get("queues", **LIVE_TOTALS)
    opened = Counter(each["vhost"] for each in broker.get("connections", columns="vhost") if "vhost" in each)
    allowed = {limit["vhost"]: limit["value"].get("max-connections", -1) for limit in broker.get("vhost-limits")}
    bounds: defaultdict[str, list[tuple[re.Pattern[str], int]]] = defaultdict(list)
    for policy in broker.get("policies") + broker.get("operator-policies"):
        if (most := policy["definition"].get("max-length-bytes")) is not None:
            bounds[policy["vhost"]].append((re.compile(policy["pattern"]), most))
    declared, messages, max_bytes = Counter[str](), Counter[str](), Counter[str]()
    for queue in queues:
        vhost = queue["vhost"]
        declared[vhost] += 1
        messages[vhost] += queue.get("messages", 0)
        max_bytes[vhost] += min((most for pattern, most in bounds[vhost] if pattern.search(queue["name"])), default=0)
    return {
        vhost: VhostUse(
            queues=declared[vhost],
            messages=messages[vhost],
            connections=opened[vhost],
            max_connections=most if (most := allowed.get(vhost, -1)) >= 0 else None,  # -1 means no limit
            max_bytes=max_bytes[vhost],
        )
        for vhost in {*declared, *opened, *allowed}
    }
