"""The nodes and the replicated queues of a broker, as any of its nodes reports them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from kryonix.rabbitmq.broker import Broker

_NODE: Final = "name,running,being_drained,rabbitmq_version,uptime,mem_alarm,disk_free_alarm,mem_used,disk_free"
_QUEUE: Final = "vhost,name,type,leader,members,online"
_REPLICATED: Final = ("quorum", "stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node. What a node that does not run would say of itself is None."""

    name: str
    running: bool
    drained: bool
    """True in maintenance mode: it serves no clients and leads no queues."""
    version: str | None
    uptime_s: int | None
    alarms: tuple[str, ...]
    """`memory` or `disk`: every node blocks publishers while one has an alarm."""
    memory: int | None
    disk_free: int | None

    @property
    def serves(self) -> bool:
        return self.running and not self.drained

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the node that the management API describes; it keeps some figures of a node that is gone."""
        running = bool(entry["running"])
        alarms = {"memory": entry.get("mem_alarm"), "disk": entry.get("disk_free_alarm")} if running else {}
        uptime = entry.get("uptime") if running else None
        return cls(
            name=entry["name"],
            running=running,
            drained=bool(entry.get("being_drained")),
            version=entry.get("rabbitmq_version") if running else None,
            uptime_s=None if uptime is None else uptime // 1000,
            alarms=tuple(name for name, on in alarms.items() if on),
            memory=entry.get("mem_used") if running else None,
            disk_free=entry.get("disk_free") if running else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedQueue:
    """A quorum queue or a stream, with the nodes of its members."""

    vhost: str
    name: str
    type: str
    leader: str
    members: frozenset[str]
    online: frozenset[str]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        return cls(
            vhost=entry["vhost"],
            name=entry["name"],
            type=entry["type"],
            leader=str(entry.get("leader") or ""),
            members=frozenset(entry.get("members") or ()),
            online=frozenset(entry.get("online") or ()),
        )

    def stops_without(self, node: str) -> bool:
        """Return True if the queue would have no majority online once this node is down."""
        return node in self.members and 2 * len(self.online - {node}) <= len(self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """The nodes by name, the replicated queues, and the stable feature flags that are not enabled."""

    nodes: Sequence[NodeState]
    queues: Sequence[ReplicatedQueue]
    disabled_flags: Sequence[str]

    def node(self, name: str) -> NodeState | None:
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def members_wanted(self) -> int:
        """Return the number of members of each queue: five nodes may hold queues of five, and none needs more."""
        return min(len(self.nodes), 3)

    def short(self) -> list[ReplicatedQueue]:
        """Return the queues with too few members, or with members that are not online."""
        return [q for q in self.queues if len(q.members) < self.members_wanted or q.members - q.online]

    def leaders(self) -> Mapping[str, int]:
        """Return the number of queues that each node leads."""
        return Counter(queue.leader for queue in self.queues)

    def problems(self) -> list[str]:
        """Return what keeps the cluster from being healthy, one sentence each. Empty: all is well."""
        down = [node.name for node in self.nodes if not node.running]
        drained = [node.name for node in self.nodes if node.running and node.drained]
        alarms = [f"{node.name} ({', '.join(node.alarms)})" for node in self.nodes if node.alarms]
        versions = sorted({node.version for node in self.nodes if node.version})
        short = self.short()
        found = {
            f"not running: {', '.join(down)}": down,
            f"in maintenance mode, serving no clients: {', '.join(drained)}": drained,
            f"alarms block publishers: {', '.join(alarms)}": alarms,
            f"nodes have different versions: {', '.join(versions)}": versions[1:],
            f"{count_text(len(short), 'queue')} short of members: {names_text(short)}": short,
            f"stable feature flags not enabled: {', '.join(self.disabled_flags)}": self.disabled_flags,
        }
        return [text for text, present in found.items() if present]


def read_state(broker: Broker) -> ClusterState:
    """Return a broker's state. Raises BrokerUnavailable."""
    queues = broker.get("queues", disable_stats="true", columns=_QUEUE)
    flags = broker.get("feature-flags", columns="name,state,stability")
    return ClusterState(
        nodes=sorted(map(NodeState.of, broker.get("nodes", columns=_NODE)), key=lambda node: node.name),
        queues=[ReplicatedQueue.of(each) for each in queues if each.get("type") in _REPLICATED],
        disabled_flags=sorted(f["name"] for f in flags if f["stability"] == "stable" and f["state"] != "enabled"),
    )


def names_text(queues: Iterable[ReplicatedQueue], most: int = 5) -> str:
    """Return the first queues by name, with their vhosts and members online, and how many more there are."""
    found = sorted(queues, key=lambda queue: (queue.vhost, queue.name))
    shown = [f"{q.name} in {q.vhost} ({len(q.online)} of {len(q.members)} online)" for q in found[:most]]
    more = [f"{len(found) - most} more"] if len(found) > most else []
    return ", ".join([*shown, *more])


def count_text(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
