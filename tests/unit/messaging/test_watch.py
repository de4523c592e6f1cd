"""When a client leaves a node that has closed nothing: it is dead, or it answers nothing that is due."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kryonix.messaging import NotConnected
from kryonix.messaging.amqp import link
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.configuration import Address, parse_uri

pytestmark = pytest.mark.anyio

ONE = parse_uri("amqp://kryonix_acme:x@one:5672/%2Fcliente_acme")
THREE = replace(ONE, others=(("two", 5672), ("three", 5672)))


@dataclass
class Node:
    """What the watch sees of a connection and its node."""

    silent_for: float = 0
    alive: bool = True
    is_blocked: bool = False
    probes: int = 0

    async def is_alive(self, node: Address) -> bool:
        self.probes += 1
        return self.alive


@dataclass(eq=False)
class User:
    waiting: bool = False
    answers: int = 0
    asked: int = 0
    answering: bool = False

    async def ask(self) -> None:
        self.asked += 1
        self.waiting = not self.answering
        self.answers += self.answering

    def lost(self) -> None: ...

    async def move(self) -> None: ...


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()
    monkeypatch.setattr("kryonix.messaging.amqp.cluster.Cluster.is_alive", lambda _, node: made.is_alive(node))
    for name, seconds in {"_LOOK_S": 0.01, "_STUCK_S": 0.2, "_IDLE_S": 0.1}.items():
        monkeypatch.setattr(link, name, seconds)
    return made


async def watched(node: Node, user: User | None, address: Address = THREE, within: float = 30) -> NotConnected | None:
    """Return why the node is left; None if it is not left in time."""
    connection: Any = node
    watching = Link(address, "acme/shop", None, 10)
    if user is not None:
        watching.add(user)
    try:
        async with asyncio.timeout(within):
            return await watching._watch(watching.node, connection)
    except TimeoutError:
        return None


async def test_a_node_that_is_silent_and_dead_is_left_while_an_answer_is_due(node: Node) -> None:
    node.silent_for, node.alive = 2.5, False
    reason = await watched(node, User(waiting=True))
    assert reason is not None
    assert "was silent for 2.5 s, and answers no new connection" in reason.problem


async def test_an_idle_client_gives_a_silent_node_the_time_of_a_heartbeat(node: Node) -> None:
    node.silent_for, node.alive = 11, False
    assert await watched(node, User(answering=True), within=0.5) is None
    node.silent_for = 13
    assert await watched(node, User(answering=True)) is not None


async def test_a_silent_node_that_lives_is_kept_and_seldom_asked(node: Node) -> None:
    node.silent_for = 5

    user = User(waiting=True)

    async def answer() -> None:
        while True:
            user.answers += 1
            await asyncio.sleep(0.01)

    answering = asyncio.create_task(answer())
    assert await watched(node, user, within=1.2) is None
    answering.cancel()
    assert 1 <= node.probes <= 8


async def test_a_living_node_that_answers_nothing_of_what_is_due_is_left(node: Node) -> None:
    reason = await watched(node, User(waiting=True))
    assert reason is not None
    assert "answers nothing of what was sent" in reason.problem


async def test_an_alarm_of_the_broker_is_no_reason_to_leave(node: Node) -> None:
    node.is_blocked = True
    assert await watched(node, User(waiting=True), within=1) is None


async def test_the_time_this_process_is_held_up_is_not_the_nodes(node: Node) -> None:
    user = User(waiting=True)

    async def answer() -> None:
        while True:
            await asyncio.sleep(0.1)
            for _ in range(10):  # what has arrived is read some turns of the event loop later
                await asyncio.sleep(0)
            user.answers += 1

    answering = asyncio.create_task(answer())
    asyncio.get_running_loop().call_later(0.15, time.sleep, 0.5)
    assert await watched(node, user, within=0.9) is None
    answering.cancel()


async def test_a_connection_that_does_not_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen:
        aborted = False

        async def close(self) -> None:
            await asyncio.Event().wait()

        def abort(self) -> None:
            self.aborted = True

    monkeypatch.setattr(link, "_CLOSE_S", 0.01)
    frozen: Any = Frozen()
    await Link._end(frozen)
    assert frozen.aborted


async def test_an_idle_consumer_asks_and_leaves_a_node_that_lost_the_others(node: Node) -> None:
    user = User()
    assert await watched(node, user) is not None
    assert user.asked == 1


async def test_an_idle_consumer_stays_where_its_queue_answers(node: Node) -> None:
    user = User(answering=True)
    assert await watched(node, user, within=1) is None
    assert user.asked > 1


async def test_a_client_of_one_node_has_nowhere_to_go(node: Node) -> None:
    node.silent_for, node.alive = 60, False
    user = User(waiting=True)
    assert await watched(node, user, ONE, within=0.5) is None
    assert (node.probes, user.asked) == (0, 0)


async def test_a_connection_that_nobody_uses_is_kept(node: Node) -> None:
    assert await watched(node, None, within=0.5) is None
