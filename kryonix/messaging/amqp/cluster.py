"""The nodes of a broker as one connection uses them: its own one, which of them answers first, and which is alive."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine
from threading import Lock
from typing import Any, Final, TypeVar

from aiormq.abc import AbstractConnection
from pamqp.header import ProtocolHeader

from kryonix.messaging.amqp.failures import not_connected
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import AccessRefused, NotConnected

_ATTEMPT_S: Final = 10.0
_STAGGER_S: Final = 1.0
"""Until the next node is tried, too: a frozen one accepts a connection and says nothing."""
_LOST_S: Final = 5.0
"""Until the node just lost is tried beside others: it may have lost them, and be the first to answer all the same."""
_REFUSED_S: Final = 2.0
"""For the others, once one node has refused: it speaks for all of them, unless it has just started."""
_ALIVE_S: Final = 2.0

Connection = TypeVar("Connection", bound=AbstractConnection)
Dial = Callable[[Address], Coroutine[Any, Any, Connection]]

_turns: dict[int, list[int]] = {}
_turn: Final = Lock()


def _next_turn(count: int) -> int:
    """Return a number below `count`: each once in random order, then again. So connections spread over the nodes."""
    with _turn:
        left = _turns.setdefault(count, [])
        if not left:
            left += random.sample(range(count), count)
        return left.pop()


class Cluster:
    """The nodes of a broker for one connection. `home` is the one to be on while it is up."""

    def __init__(self, address: Address, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        self._nodes = address.nodes
        self.home = self._nodes[_next_turn(len(self._nodes))]

    @property
    def has_others(self) -> bool:
        return len(self._nodes) > 1

    async def connect(self, dial: Dial[Connection], lost: Address | None = None) -> tuple[Address, Connection]:
        """Return the first connection to a node, and the node. Begin at home, and leave the one just lost to the end.

        Raises NotConnected, or AccessRefused if a node refuses and no other lets in; all that were tried are named.
        """
        others = random.sample([node for node in self._nodes if node != self.home], len(self._nodes) - 1)
        waiting = sorted([self.home, *others], key=lambda node: node == lost)
        trying: dict[asyncio.Task[Connection], Address] = {}
        failed: list[NotConnected] = []
        clock = asyncio.get_running_loop().time
        began, deadline = clock(), clock() + _ATTEMPT_S
        try:
            while waiting or trying:
                if waiting and not (waiting == [lost] and trying and clock() < began + _LOST_S):
                    node = waiting.pop(0)
                    trying[asyncio.create_task(dial(node))] = node
                left = deadline - clock()
                if left <= 0:
                    break
                pause = began + _LOST_S - clock() if waiting == [lost] else _STAGGER_S
                done, _ = await asyncio.wait(
                    trying, timeout=min(left, max(pause, 0)) if waiting else left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    node = trying.pop(task)
                    error = asyncio.CancelledError() if task.cancelled() else task.exception()
                    if error is None:
                        return node, task.result()
                    failed.append(not_connected(node, error))
                    if isinstance(failed[-1], AccessRefused):
                        deadline = min(deadline, clock() + _REFUSED_S)
        finally:
            for task in trying:
                abandon(task)
        failed += [NotConnected(f"{node.place} did not answer in time") for node in [*trying.values(), *waiting]]
        raise _all_of(failed)

    async def is_alive(self, node: Address) -> bool:
        """Return True if a node begins to answer a new connection, for which it asks nobody else, and no login."""
        try:
            async with asyncio.timeout(_ALIVE_S):
                trust = (self._trust or True) if node.scheme == "amqps" else None
                reader, writer = await asyncio.open_connection(node.host, node.port, ssl=trust)
                try:
                    writer.write(ProtocolHeader().marshal())
                    return bool(await reader.read(1))
                finally:
                    writer.transport.abort()
        except ssl.SSLError:  # it may serve another certificate by now, but it lives
            return True
        except (OSError, TimeoutError, ValueError):
            return False


def abandon(task: asyncio.Task[Connection]) -> None:
    """End an attempt that is not needed, and whatever it may have reached. Closing takes its time: don't wait."""

    def close(ended: asyncio.Task[Connection]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            closing = asyncio.ensure_future(ended.result().close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)

    task.cancel()
    task.add_done_callback(close)


_closing: set[asyncio.Future[None]] = set()
"""Kept here, as the event loop keeps no reference to a task."""


def _all_of(failed: list[NotConnected]) -> NotConnected:
    """Return the one error for several nodes', a refusal's before others'."""
    failed = sorted(failed, key=lambda error: not isinstance(error, AccessRefused))
    problems = dict.fromkeys(error.problem for error in failed)
    return type(failed[0])("; ".join(problems), remedy=failed[0].remedy)
