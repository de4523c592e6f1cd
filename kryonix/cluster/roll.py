"""Replace the containers of a cluster's nodes, one after the other, while the others serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final

from kryonix.cluster.errors import ClusterNotReady, OperationStopped
from kryonix.cluster.nodes import RecordedNode, allowed_to_change
from kryonix.cluster.state import ClusterState, ReplicatedQueue, count_text, names_text, read_state
from kryonix.engines.deployments import CONTAINER_TYPE, entries
from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.events import OnEvent, Step
from kryonix.errors import KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable

_BACK_S: Final = 600
"""Seconds until a node runs again with all its members: it reads its log, and takes what it has missed."""
_TURN_S: Final = 120
"""Seconds until no queue needs the next node: members that were away take what they have missed."""
_POLL_S: Final = 0.5

OnStage = Callable[[str], None]
"""Called with what happens now."""


def due_nodes(
    steps: Iterable[Step], deployment: Mapping[str, Any], nodes: Sequence[RecordedNode]
) -> list[RecordedNode]:
    """Return the nodes whose containers a preview would change, and those whose containers the state has lost."""
    changed = {step.urn for step in steps if step.op not in ("same", "read", "refresh")}
    recorded = {str(r["inputs"].get("name")): r["urn"] for r in entries(deployment) if r["type"] == CONTAINER_TYPE}
    return [node for node in nodes if recorded.get(node.container) is None or recorded[node.container] in changed]


def refusals(state: ClusterState, nodes: Sequence[RecordedNode], due: Sequence[RecordedNode]) -> list[str]:
    """Return why the nodes that are due can't be replaced now. Empty: they can.

    A node that is due and does not serve was left by a roll that ended midway: it comes first, and it is no reason.
    Nor is an alarm of a node that is due: its limits may be what is changed, and only another container has others.
    """
    states = {node.name: node for node in state.nodes}
    absent = [node for node in nodes if node.name not in states or not states[node.name].running]
    drained = [node for node in nodes if node not in absent and states[node.name].drained]
    due_names = {node.name for node in due}
    alarms = [
        f"{node.name} ({', '.join(node.alarms)})" for node in state.nodes if node.alarms and node.name not in due_names
    ]
    found = [
        f"{node.container} does not run. Start it (`docker start {node.container}`, or `docker unpause` if it is "
        "paused) and wait until it is back"
        for node in absent
        if node not in due or len(absent) > 1
    ]
    found += [
        f"{node.container} is in maintenance mode. End it: `docker exec {node.container} rabbitmq-upgrade revive`"
        for node in drained
        if node not in due
    ]
    if alarms:
        found.append(f"alarms block publishers: {', '.join(alarms)}. Free memory or disk space, or raise the limits")
    if not absent and not drained and (stopped := stopped_without(state, due)):
        found.append(
            f"{count_text(len(stopped), 'queue')} would stop without one of the nodes: {names_text(stopped)}. "
            "`kryonix cluster status` lists them; `kryonix cluster grow` adds missing members"
        )
    return found


def stopped_without(state: ClusterState, nodes: Iterable[RecordedNode]) -> list[ReplicatedQueue]:
    """Return the queues without a majority once one of these nodes is down."""
    names = [node.name for node in nodes]
    return [queue for queue in state.queues if any(queue.stops_without(name) for name in names)]


def in_order(state: ClusterState, due: Sequence[RecordedNode]) -> list[RecordedNode]:
    """Return the nodes in the order of their turn: what a roll that ended midway has left first."""
    states = {node.name: node for node in state.nodes}

    return sorted(due, key=lambda node: (node.name in states and states[node.name].serves, node.number))


def is_back(state: ClusterState, node: RecordedNode) -> bool:
    """Return True if a node serves, with all members of queues that it has."""
    found = state.node(node.name)
    if found is None or not found.serves:
        return False
    return all(node.name in queue.online for queue in state.queues if node.name in queue.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Replacing nodes of one stack's cluster. `on_stage` is called with each stage, `on_event` with the engine's.

    `connect` opens the broker at the addresses that the last run has recorded: a roll may change them.
    """

    engine: Engine
    spec: StackSpec
    connect: Callable[[], AbstractContextManager[Broker]]
    on_stage: OnStage
    on_event: OnEvent = ignore

    def run(self, due: Sequence[RecordedNode], settled: Iterable[RecordedNode]) -> None:
        """Replace the nodes, in this order. Raises OperationStopped at the first failure.

        `settled` are the nodes that need no change: each run records their digests, which a killed one may not have.
        """
        numbers = [node.number for node in settled]
        for done, node in enumerate(due):
            try:
                self._replace(node, only(node, numbers))
                numbers.append(node.number)
            except KryonixError as error:
                raise OperationStopped(
                    f"the roll stopped at {node.container}, with {done} of {len(due)} nodes done: {error}\n"
                    "The other nodes serve. Correct the cause, then run the same command again: it continues with "
                    "this node"
                ) from error

    def _replace(self, node: RecordedNode, allowed: str) -> None:
        with self.connect() as broker:
            _wait_for_turn(broker, node)
            self.on_stage(f"{node.container}: draining")
            try:
                if _runs(broker, node):
                    node.drain()
                    _refuse_second(broker, node)
                self.on_stage(f"{node.container}: replacing the container")
                with allowed_to_change(allowed):
                    self.engine.up(self.spec, self.on_event)
            except BaseException:
                _revive(broker, node)
                raise
        self.on_stage(f"{node.container}: waiting until it is back")
        with self.connect() as broker:
            _wait_until_back(broker, node)
        node.refuse_alarm()


def only(node: RecordedNode, settled: Iterable[int]) -> str:
    """Return the value for a run that may change this node, and records that the settled ones need no change."""
    others = ",".join(map(str, sorted(settled)))
    return f"{node.number}+{others}" if others else str(node.number)


def _runs(broker: Broker, node: RecordedNode) -> bool:
    found = read_state(broker).node(node.name)
    return found is not None and found.running


def _refuse_second(broker: Broker, node: RecordedNode) -> None:
    """Raise ClusterNotReady if another node went while this one was drained: one of the two has to stay."""
    away = [each.name for each in read_state(broker).nodes if each.name != node.name and not each.serves]
    if away:
        raise ClusterNotReady(f"{', '.join(away)} stopped serving clients meanwhile. Another roll may be going on")


def _revive(broker: Broker, node: RecordedNode) -> None:
    """Let a node serve again whose container was not replaced."""
    with suppress(KryonixError):
        found = read_state(broker).node(node.name)
        if found is not None and found.running and found.drained:
            node.revive()


def _wait_for_turn(broker: Broker, node: RecordedNode) -> None:
    """Wait until all others serve, and no queue stops without the node. Raises ClusterNotReady."""

    def problem(state: ClusterState) -> str:
        found = state.node(node.name)
        if found is None or not found.running:
            return ""
        others = [other for other in state.nodes if other is not found]
        away = [o.name for o in others if not o.running or (o.drained and not found.drained)]
        if away:
            return f"{', '.join(away)} serves no clients, so this node has to"
        stopped = stopped_without(state, [node])
        return f"queues would stop without it: {names_text(stopped)}" if stopped else ""

    if left := wait_for(broker, problem, _TURN_S):
        raise ClusterNotReady(left)


def _wait_until_back(broker: Broker, node: RecordedNode) -> None:
    """Wait until the node serves with all its members. Raises ClusterNotReady."""

    def problem(state: ClusterState) -> str:
        found = state.node(node.name)
        if found is not None and found.running and found.drained:
            node.revive()  # a restart ends maintenance mode; this one was not replaced
        if is_back(state, node):
            return ""
        return f"it is not back after {_BACK_S} s: `docker logs --tail 50 {node.container}` says why"

    if left := wait_for(broker, problem, _BACK_S):
        raise ClusterNotReady(left)


def wait_for(broker: Broker, problem: Callable[[ClusterState], str], within_s: float) -> str:
    """Ask until there is no problem, and return the one that is left after so many seconds."""
    until = time.monotonic() + within_s
    while True:
        try:
            left = problem(read_state(broker))
        except BrokerUnavailable as error:  # the node that just went
            left = str(error)
        if not left or time.monotonic() > until:
            return left
        time.sleep(_POLL_S)


def finish(broker: Broker) -> list[str]:
    """Enable the stable feature flags, and spread the leaders over the nodes. Return the flags enabled.

    Flags stay as they are while versions differ or a node is down: an older node could not join again.
    """
    state = read_state(broker)
    if not all(node.running for node in state.nodes):
        return []
    enabled = []
    if len({node.version for node in state.nodes if node.version}) == 1:
        for flag in state.disabled_flags:
            with suppress(BrokerFailed):  # `cluster status` goes on to name it
                broker.call("PUT", "feature-flags", flag, "enable", json={"name": flag})
                enabled.append(flag)
    broker.call("POST", "rebalance", "queues")
    return enabled
