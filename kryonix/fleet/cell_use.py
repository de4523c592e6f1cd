"""Actual usage of a cell's broker by vhost, in five calls to its management API for any number of tenants."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kryonix.rabbitmq.broker import BrokerUnavailable

_TIMEOUT: Final = httpx.Timeout(60, connect=3)
_ALIVE_S: Final = 10
"""Time limit of a first call in seconds, before the long lists are requested."""

_QUEUES: Final = {"disable_stats": "true", "enable_queue_totals": "true"}
_NEEDED: Final = ("management_url", "admin_username", "admin_password")


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
    if missing := [name for name in _NEEDED if not outputs.get(name)]:
        problem = f"the platform of the cell {cell!r} has no {missing[0]} among its outputs"
        raise BrokerUnavailable(f"{problem}: nothing is deployed. Run `kryonix up` on its stack")
    auth = (str(outputs["admin_username"]), str(outputs["admin_password"]))
    url = str(outputs["management_url"]).rstrip("/")
    try:
        with httpx.Client(base_url=f"{url}/api/", auth=auth, timeout=_TIMEOUT) as client:
            client.get("whoami", timeout=_ALIVE_S).raise_for_status()
            return ask(client)
    except (httpx.HTTPError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "Check that it runs and can be reached from here"
        raise BrokerUnavailable(
            f"the broker of the cell {cell!r} ({url}) does not answer: {reason}. {remedy}"
        ) from error


def ask(client: httpx.Client) -> dict[str, VhostUse]:
    """Return usage by vhost, from a client of the management API. Raises httpx.HTTPError."""
    queues = client.get("queues", params=_QUEUES).raise_for_status().json()
    connections = client.get("connections", params={"columns": "vhost"}).raise_for_status().json()
    limits = client.get("vhost-limits").raise_for_status().json()
    policies = [
        policy for kind in ("policies", "operator-policies") for policy in client.get(kind).raise_for_status().json()
    ]
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
