"""A supervised connection: replaced whenever it breaks or its node dies, never waited for without a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from kryonix.messaging.amqp.cluster import Cluster, abandon
from kryonix.messaging.amqp.connection import Connection, connect
from kryonix.messaging.amqp.failures import BROKEN, not_connected
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import AccessRefused, NotConnected

log = logging.getLogger("kryonix.messaging")

REPORTED: Final = (
    "error when creating transport",
    "Unexpected connection close",
    "Cancelling cause reader exited abnormally",
    "Server connection %r was stuck",
    "Consumer %r cancelled by the broker",
    "Closing channel %r",
    "It looks like you are going to send a frame %r after the connection is closed",
)
"""The beginnings of aiormq's log entries about what the SDK reports itself, once instead of at each attempt."""
for _part in ("abc", "channel", "connection"):
    logging.getLogger(f"aiormq.{_part}").addFilter(lambda record: not str(record.msg).startswith(REPORTED))

_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_CLOSE_S: Final = 3.0
"""Time for the broker to answer a close."""
_LOOK_S: Final = 0.5
_SILENT_S: Final = 2.0
"""Silence while an answer is due. Then the node is asked by a new connection whether it is alive."""
_STUCK_S: Final = 5.0
"""Without any answer that is due, from a node that is alive: it may have lost the others, and its queues with them.

It doubles with every such node in a row. A queue whose leader is gone has a new one after 9 s at most.
"""
_IDLE_S: Final = 5.0
"""Without an answer or a message. Then a user asks."""
_MAX_STUCK_S: Final = 60.0
_LATE_S: Final = 2.0
"""Silence beyond the heartbeat, which the broker keeps also where it has nothing to say."""
_MAX_LOOK_S: Final = 30.0
_AWAY_S: Final = 10.0
"""Before the first attempt to go back to the own node. It doubles with every loss of that node soon after a return."""
_MAX_AWAY_S: Final = 300.0
_MAX_ATTEMPT_PAUSE_S: Final = 60.0
_RETURN_S: Final = 5.0
"""Time for a connection to the own node."""


class User(Protocol):
    """Who uses a link's connection."""

    @property
    def waiting(self) -> bool:
        """True while an answer of the broker is due at once."""

    @property
    def answers(self) -> int:
        """The number of answers so far."""

    async def ask(self) -> None:
        """Ask for an answer that a node without the others can't give, and be `waiting` until it comes."""

    def lost(self) -> None:
        """Note that the connection is broken."""

    async def move(self) -> None:
        """Use the link's new connection, and return once nothing is left on the old one."""


class _Answers:
    """The answers that a watch has seen: their number, -1 before the first look, and times of the event loop."""

    def __init__(self, now: float) -> None:
        self.count = -1
        self.since = now
        """When it last changed, or nothing was due."""
        self.heard = now
        """When it last grew, or a user was told to ask."""


class Link:
    """A supervised connection to one of the broker's nodes.

    A connection that breaks is replaced by a new one, and its users are notified. With several nodes it moves on at
    once, also from a node that is frozen, and goes back to its own node once that is up: nothing is cut off then.
    """

    def __init__(self, address: Address, name: str, ssl_context: ssl.SSLContext | None, heartbeat: int) -> None:
        self._address, self._name, self._ssl, self._heartbeat = address, name, ssl_context, heartbeat
        self._cluster = Cluster(address, ssl_context)
        self.node = self._cluster.home
        """The node of the connection, or of the last one."""
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._ending = set[asyncio.Task[None]]()
        """The ends of connections that are no longer offered."""
        self._left = asyncio.Event()
        self._error: NotConnected | None = None
        self._logged: set[str] = set()
        self._opened = self._closed = False
        self._users = set[User]()
        self._away_s, self._stuck_s = _AWAY_S, _STUCK_S
        self._suspected = asyncio.Event()
        self._on_dead: list[Callable[[Address], None]] = []

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def add(self, user: User) -> None:
        self._users.add(user)

    def remove(self, user: User) -> None:
        self._users.discard(user)

    def on_dead(self, tell: Callable[[Address], None]) -> None:
        """Call `tell` with a node that was found dead."""
        self._on_dead.append(tell)

    def suspect(self, node: Address) -> None:
        """Ask soon whether a node is alive, if this link is on it: another one has found it dead."""
        if self.node == node:
            self._suspected.set()

    async def open(self, timeout: float) -> None:
        """Connect. Raises AccessRefused at once, NotConnected at the deadline."""
        deadline = asyncio.get_running_loop().time() + timeout
        self._keeper = asyncio.create_task(self._keep(), name=f"kryonix link {self._name}")
        try:
            while not self.connected:
                with contextlib.suppress(NotConnected):
                    await self.connection(min(0.05, timeout))
                if isinstance(self._error, AccessRefused):
                    raise self._error
                if asyncio.get_running_loop().time() >= deadline and not self.connected:
                    raise self.missing(timeout)
            self._opened = True
        except BaseException:
            await self.close()
            raise

    async def connection(self, timeout: float) -> Connection:
        """Return the connection as soon as there is one. Raises NotConnected after `timeout` seconds."""
        if self._connection is not None:
            return self._connection
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(timeout, 0)):
                await self._up.wait()
        if self._connection is None:
            raise self.missing(timeout)
        return self._connection

    def offers(self, connection: Connection) -> bool:
        """Return True if this is still the connection to use."""
        return self._connection is connection

    def missing(self, timeout: float) -> NotConnected:
        """Return the reason for the missing connection, after a wait of `timeout` seconds."""
        if self._closed:
            return NotConnected("the client is closed", remedy="Connect a new one")
        if self._error is not None:
            return type(self._error)(
                f"{self._error.problem}; waited {round(timeout, 3):g} s", remedy=self._error.remedy
            )
        return NotConnected(f"no connection to {self._address.place} within {round(timeout, 3):g} s")

    async def close(self) -> None:
        """Disconnect, and wake the tasks waiting for a connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=_CLOSE_S + 1)
            self._left.set()
            if self._ending:
                await asyncio.wait(self._ending, timeout=_CLOSE_S + 1)
        self._keeper, self._closed = None, True
        self._up.set()

    async def _keep(self) -> None:
        lost: Address | None = None
        while True:
            node, connection = await self._reached(lost)
            while (home := await self._used(node, connection)) is not None:
                self._later(self._retire(connection))
                node, connection = self._cluster.home, home
            lost = node

    async def _reached(self, lost: Address | None) -> tuple[Address, Connection]:
        """Return a connection to a node, which is another than the one just lost if one of the others answers."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._cluster.connect(self._dial, lost)
            except NotConnected as error:
                self._report(error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing
            pause = min(pause * 2, _MAX_PAUSE_S)

    async def _used(self, node: Address, connection: Connection) -> Connection | None:
        """Offer a connection until it is lost, or until there is one to the own node: return that."""
        closing = connection.closing
        began = asyncio.get_running_loop().time()
        self._offer(node, connection)
        watch, back = asyncio.create_task(self._watch(node, connection)), asyncio.create_task(self._back(node))
        home: Connection | None = None
        try:
            await asyncio.wait([closing, watch, back], return_when=asyncio.FIRST_COMPLETED)
            home = back.result() if back.done() else None
            if home is None:
                self._error = watch.result() if watch.done() else self._reason(node, closing)
                log.warning("%s: connection lost, connecting again: %s", self._name, self._error.problem)
        finally:
            watch.cancel()
            if home is None:
                abandon(back)
                if node is self._cluster.home:
                    soon = asyncio.get_running_loop().time() - began < _MAX_AWAY_S
                    self._away_s = min(self._away_s * 2, _MAX_AWAY_S) if soon else _AWAY_S
                self._connection = None
                self._up.clear()
                for user in tuple(self._users):
                    user.lost()
                self._later(self._end(connection))
        return home

    def _offer(self, node: Address, connection: Connection) -> None:
        if self._error is not None:
            log.warning("%s: connected again to %s", self._name, node.place)
        self.node, self._connection, self._error = node, connection, None
        self._logged.clear()
        self._up.set()

    def _reason(self, node: Address, closing: asyncio.Future[Any]) -> NotConnected:
        reason = asyncio.CancelledError() if closing.cancelled() else closing.exception()
        return not_connected(node, reason or ConnectionError("closed by the broker"))

    async def _watch(self, node: Address, connection: Connection) -> NotConnected:
        """Return why to leave the node, once there is a reason. Without another node, heartbeats decide.

        It is dead if it is silent where it should not be, and does not answer a new connection. An alive one may be
        silent while a queue has no leader, or while an alarm stops publishers; but if nothing is answered for long, it
        may have lost the other nodes.
        """
        if not self._cluster.has_others:
            await asyncio.Event().wait()
        clock = asyncio.get_running_loop().time
        answers, asked, pause = _Answers(clock()), 0.0, _LOOK_S
        while True:
            look = clock() + _LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(look):
                    await self._suspected.wait()
            if (held_up := clock() - look) > _LOOK_S:  # by this process: what was answered meanwhile is not read yet
                answers.since += held_up
                answers.heard += held_up
            suspected = self._suspected.is_set()
            self._suspected.clear()
            if (stuck := self._stuck(connection, answers, clock())) is not None:
                return NotConnected(f"{node.place} answers nothing of what was sent for {stuck:.1f} s")
            due = _SILENT_S if self._waiting or suspected else self._heartbeat + _LATE_S
            if connection.silent_for < due:
                pause = _LOOK_S
            elif suspected or clock() >= asked + pause:
                if not await self._cluster.is_alive(node) and (silent := connection.silent_for) >= due:
                    for tell in self._on_dead:
                        tell(node)
                    return NotConnected(f"{node.place} was silent for {silent:.1f} s, and answers no new connection")
                asked, pause = clock(), min(pause * 2, _MAX_LOOK_S)

    @property
    def _waiting(self) -> bool:
        return any(user.waiting for user in self._users)

    def _stuck(self, connection: Connection, seen: _Answers, now: float) -> float | None:
        """Return for how long nothing was answered if that is too long. Ask where nothing is due for a while."""
        waiting, answers = self._waiting, sum(user.answers for user in self._users)
        if answers > seen.count:
            seen.heard = now
            if seen.count >= 0:
                self._stuck_s = _STUCK_S
        if self._users and not waiting and now - seen.heard > _IDLE_S:
            seen.heard = now
            self._later(random.choice(list(self._users)).ask())  # noqa: S311 - each in its turn will do
        if not waiting or answers != seen.count or connection.is_blocked:
            seen.count, seen.since = answers, now
        if (stuck := now - seen.since) <= self._stuck_s:
            return None
        self._stuck_s = min(self._stuck_s * 2, _MAX_STUCK_S)
        return stuck

    async def _back(self, node: Address) -> Connection:
        """Return a connection to the own node once there is one. It is not wanted while that node is in use."""
        if node is self._cluster.home:
            await asyncio.Event().wait()
        pause = self._away_s
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing
            # A task of its own: aiormq may cancel whoever waits for it, and raise anything.
            dialling = asyncio.create_task(self._dial(self._cluster.home))
            reached = False
            try:
                await asyncio.wait([dialling], timeout=_RETURN_S)
                reached = dialling.done() and not dialling.cancelled() and dialling.exception() is None
            finally:
                if not reached:
                    abandon(dialling)
            if reached:
                return dialling.result()
            pause = min(pause * 2, _MAX_ATTEMPT_PAUSE_S)

    async def _retire(self, connection: Connection) -> None:
        """Close a connection once its users have left it, or it breaks, or the client is closed."""
        log.info("%s: back on %s", self._name, self._cluster.home.place)
        moves = asyncio.gather(*(user.move() for user in self._users), return_exceptions=True)
        left = asyncio.create_task(self._left.wait())
        closing = connection.closing
        ends: list[asyncio.Future[Any]] = [moves, left, closing]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        moves.cancel()
        left.cancel()
        await self._end(connection)

    @staticmethod
    async def _end(connection: Connection) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await connection.close()
        except TimeoutError:  # a frozen node reads nothing: what waits to be written would hold the socket open
            connection.abort()
        except BROKEN:
            pass

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside what goes on: a frozen node would hold it up."""
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _dial(self, node: Address) -> Connection:
        uri = f"{node.uri()}{'&' if node.query else '?'}heartbeat={self._heartbeat}"
        return await connect(uri, self._name, self._ssl)

    def _report(self, error: NotConnected) -> None:
        refused = isinstance(error, AccessRefused) and not self._opened  # open() raises it, and does not try again
        if not refused and error.problem not in self._logged:
            self._logged.add(error.problem)  # a broker that starts alternates between several
            log.warning("%s: %s; trying again", self._name, error.problem)
        self._error = error
