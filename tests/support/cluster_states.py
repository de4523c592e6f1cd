"""States of clusters, as the management API would describe them."""

from __future__ import annotations

from collections.abc import Iterable

from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.state import ClusterState, NodeState, ReplicatedQueue

__all__ = ["cluster_of", "node_state", "queue_on", "recorded"]

_LETTERS = "abcde"


def node_state(name: str, **changed: object) -> NodeState:
    """Return a node that runs, with other fields of the API."""
    entry = {"name": name, "running": True, "being_drained": False, "rabbitmq_version": "4.3.6", "uptime": 61_000}
    return NodeState.of({**entry, **changed})


def queue_on(members: str = "abc", online: str | None = None, name: str = "q", **changed: object) -> ReplicatedQueue:
    """Return a queue on the nodes with these letters; by default all are online."""
    of, present = ([f"rabbit@{each}" for each in part] for part in (members, members if online is None else online))
    entry = {"vhost": "/v", "name": name, "type": "quorum", "leader": of[0], "members": of, "online": present}
    return ReplicatedQueue.of({**entry, **changed})


def cluster_of(*queues: ReplicatedQueue, nodes: int = 3, changed: Iterable[NodeState] = ()) -> ClusterState:
    """Return nodes `rabbit@a` and so on, some of them replaced, with queues."""
    others = {node.name: node for node in changed}
    names = [f"rabbit@{letter}" for letter in _LETTERS[:nodes]]
    return ClusterState(nodes=[others.get(n, node_state(n)) for n in names], queues=queues, disabled_flags=())


def recorded(count: int = 3) -> list[RecordedNode]:
    """Return the nodes of such a cluster as a stack records them."""
    return [
        RecordedNode(number=number, name=f"rabbit@{letter}", container=f"node-{letter}", docker="")
        for number, letter in enumerate(_LETTERS[:count], 1)
    ]
