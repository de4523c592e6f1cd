"""A broker as it is, in a few calls for any number of tenants."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import urllib3

from kryonix.certificates.trust import context
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable

_STATUS: Final = re.compile(r'^rabbitmq_cluster_vhost_status\{vhost="((?:[^"\\]|\\.)*)"\} 1(?:\.0)?$', re.MULTILINE)
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
    login = f"{outputs.get('metrics_username')}:{outputs.get('metrics_password')}"
    url = f"{outputs.get('metrics_url')}/detailed"
    try:
        answer = urllib3.PoolManager(ssl_context=context(str(outputs.get("ca_certificate") or ""))).request(
            "GET",
            url,
            fields={"family": "vhost_status"},
            headers=urllib3.make_headers(basic_auth=login),
            timeout=urllib3.Timeout(connect=5, read=30),
            retries=False,
        )
    except urllib3.exceptions.HTTPError as error:
        raise BrokerUnavailable(f"the metrics at {url} can't be read ({type(error).__name__})") from error
    if answer.status != 200:
        raise BrokerUnavailable(f"the metrics at {url} can't be read: status {answer.status}")
    return set(_STATUS.findall(answer.data.decode(errors="replace")))
