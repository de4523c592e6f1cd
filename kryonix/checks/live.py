"""A broker as it is, in a few calls for any number of tenants."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed
from kryonix.rabbitmq.metrics import metric_lines

_STATUS: Final = re.compile(r'^rabbitmq_cluster_vhost_status\{vhost="((?:[^"\\]|\\.)*)"\} 1(?:\.0)?$')
_READ_S: Final = 30
_KINDS: Final = ("exchanges", "queues", "bindings", "policies", "parameters", "permissions", "topic_permissions")

_EFFECTIVE: Final = "effective_policy_definition"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A broker's objects by name, those inside vhosts by kind and vhost, and each queue's effective policy."""

    vhosts: Mapping[str, Entry]
    users: Mapping[str, Entry]
    inside: Mapping[tuple[str, str], list[Entry]]
    effective: Mapping[str, Mapping[str, Entry]]

    @classmethod
    def of(cls, definitions: Mapping[str, Any], queues: Iterable[Entry]) -> Self:
        """Return the objects of an export of definitions, and the policies that the queues report."""
        inside: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for kind in _KINDS:
            for entry in definitions[kind]:
                inside[kind, entry["vhost"]].append(entry)
        effective: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
        for queue in queues:
            effective[queue["vhost"]][queue["name"]] = queue.get(_EFFECTIVE) or {}
        return cls(
            vhosts={entry["name"]: entry for entry in definitions["vhosts"]},
            users={entry["name"]: entry for entry in definitions["users"]},
            inside=inside,
            effective=effective,
        )

    def of_kind(self, kind: str, vhost: str) -> list[Entry]:
        return self.inside.get((kind, vhost), [])


def read_live(broker: Broker, *vhost: str) -> Live:
    """Return a broker's objects; `vhost` limits the effective policies to one vhost. Raises BrokerUnavailable."""
    # Without statistics, whose cache is up to 5 s old.
    queues = broker.find("queues", *vhost, disable_stats="true", columns=f"vhost,name,{_EFFECTIVE}") or []
    return Live.of(broker.get("definitions"), queues)


def alarms(broker: Broker) -> str:
    """Return what the broker says of its alarms; empty if none is on. Raises BrokerUnavailable."""
    try:
        broker.get("health", "checks", "alarms")
    except BrokerFailed as error:
        return error.reason
    return ""


def measured_vhosts(outputs: Mapping[str, Any]) -> set[str]:
    """Return the vhosts that the broker's metrics report as running. Raises BrokerUnavailable."""
    lines = metric_lines(outputs, "vhost_status", read_s=_READ_S)
    return {match[1] for line in lines if (match := _STATUS.match(line))}
