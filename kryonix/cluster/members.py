"""Give every quorum queue and stream its members on the nodes of a cluster that has grown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kryonix.cluster.errors import CommandFailed
from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.roll import wait_for
from kryonix.cluster.state import ClusterState, ReplicatedQueue, names_text, read_state
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable

_AT_ONCE: Final = 8
_PATIENCE_S: Final = 60
"""Seconds without one queue more that is complete, until those that are left are given up."""
_POLL_S: Final = 0.5

OnQueues = Callable[[int, int], None]
"""Called with the number of queues that have all their members, and the number of all."""


def additions(state: ClusterState) -> dict[ReplicatedQueue, str]:
    """Return the node of the next member of each quorum queue that has too few: the one with the fewest members.

    One member a queue at a time: a queue accepts the next one once the last has joined.
    """
    ready = [node.name for node in state.nodes if node.serves]
    held = Counter({name: sum(name in queue.members for queue in state.queues) for name in ready})
    chosen: dict[ReplicatedQueue, str] = {}
    for queue in state.queues:
        free = [name for name in ready if name not in queue.members]
        if queue.type == "quorum" and len(queue.members) < state.members_wanted and free:
            chosen[queue] = min(free, key=lambda name: held[name])
            held[chosen[queue]] += 1
    return chosen


def add_members(broker: Broker, on_queues: OnQueues = lambda done, total: None) -> dict[str, str]:
    """Add members until every quorum queue has enough, and all are online. Accepts a run that others began.

    Return why each remaining queue is short of members, by `QUEUE in VHOST`: empty if all is well.
    """
    progress, until = -1, time.monotonic() + _PATIENCE_S
    while True:
        state = read_state(broker)
        short = [queue for queue in state.short() if queue.type == "quorum"]
        done = len(state.queues) - len(short)
        on_queues(done, len(state.queues))
        if not short:
            return {}
        if sum(len(queue.online) for queue in state.queues) > progress:
            progress, until = sum(len(queue.online) for queue in state.queues), time.monotonic() + _PATIENCE_S
        refused = _add(broker, additions(state))
        if time.monotonic() > until:
            return {_place(q): refused.get(q, f"{len(q.online)} of {len(q.members)} members online") for q in short}
        time.sleep(_POLL_S)


def add_replicas(broker: Broker, nodes: Sequence[RecordedNode]) -> dict[str, str]:
    """Add replicas until every stream has enough, and all are online. `nodes` are those of the stack.

    Only a command in a node's container does it. Return why each remaining stream is short, by `STREAM in VHOST`.
    """
    state, refused = read_state(broker), dict[str, str]()
    ready = [node.name for node in state.nodes if node.serves]
    asked = next((node for node in nodes if node.name in ready), None)
    for stream in (queue for queue in state.short() if queue.type == "stream"):
        free = [name for name in ready if name not in stream.members]
        for name in free[: max(state.members_wanted - len(stream.members), 0)]:
            if asked is None:
                break
            try:
                asked.run(["rabbitmq-streams", "add_replica", "--vhost", stream.vhost, stream.name, name])
            except CommandFailed as error:
                refused[_place(stream)] = str(error)

    def short(state: ClusterState) -> str:
        return names_text(queue for queue in state.short() if queue.type == "stream" and _place(queue) not in refused)

    wait_for(broker, short, _PATIENCE_S)
    return {
        _place(q): refused.get(_place(q), f"{len(q.online)} of {len(q.members)} replicas online")
        for q in read_state(broker).short()
        if q.type == "stream"
    }


def _place(queue: ReplicatedQueue) -> str:
    return f"{queue.name} in {queue.vhost}"


def _add(broker: Broker, chosen: Mapping[ReplicatedQueue, str]) -> dict[ReplicatedQueue, str]:
    """Add the members, and return the reasons of the broker for those that it refuses for now."""

    def add(queue: ReplicatedQueue) -> str:
        path = ("queues", "quorum", queue.vhost, queue.name, "replicas", "add")
        try:
            broker.call("POST", *path, json={"node": chosen[queue]})
        except BrokerFailed as error:
            return error.reason
        except BrokerUnavailable as error:
            return error.problem
        return ""

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {queue: reason for queue, reason in zip(chosen, pool.map(add, chosen), strict=True) if reason}
