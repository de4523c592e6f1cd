"""A steady load of confirmed messages with its consumers, and what became of each message."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kryonix.messaging import MemoryIdempotency, Message, MessagingClient, MessagingError
from tests.support.waiting import eventually_async

__all__ = ["Load", "Outcome", "load"]

_PER_SECOND = 200
_CLIENTS = 3
_SEND_S = 120
"""How long a message may take, so that a long outage shows as a gap."""
_SETTLE_S = 180

T = TypeVar("T")
Connect = Callable[..., Awaitable[MessagingClient]]
"""Connects a client of the tenant, with these options."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the messages, and the longest gaps of any queue's publisher and consumer since the last mark.

    `late` messages were handled after later ones of their queue: they were on their way to a consumer whose node was
    lost, and the broker gives them to the next one after a while. Nothing keeps a queue's order over that.
    """

    confirmed: int
    failed: Sequence[str]
    lost: int
    handled_twice: int
    late: int
    gap_s: float
    handling_gap_s: float

    @property
    def intact(self) -> bool:
        """Return True if every message was confirmed, and then handled once."""
        return not (self.failed or self.lost or self.handled_twice)


@dataclass(slots=True)
class _Gap:
    """The longest time between two events, in seconds."""

    last: float = field(default_factory=time.monotonic)
    longest: float = 0

    def note(self) -> None:
        now = time.monotonic()
        self.last, self.longest = now, max(self.longest, now - self.last)

    def restart(self) -> None:
        """Forget the time before now, but not that nothing has come since the last event."""
        self.longest = 0

    @property
    def now(self) -> float:
        return max(self.longest, time.monotonic() - self.last)


@dataclass(slots=True)
class _Lane:
    """One queue: its publisher sends one message after the other, its only consumer handles one at a time."""

    module: str
    action: str
    confirmed: int = 0
    handled: Counter[int] = field(default_factory=Counter)
    latest: int = -1
    late: int = 0
    failed: list[str] = field(default_factory=list)
    publishing: _Gap = field(default_factory=_Gap)
    handling: _Gap = field(default_factory=_Gap)

    async def publish(self, client: MessagingClient, every: float, ended: asyncio.Event) -> None:
        """Send until the load ends. A message that fails is sent again, with its number."""
        while not ended.is_set():
            due = time.monotonic() + every
            try:
                await client.module(self.module).send(
                    self.action, self.confirmed, message_id=f"{self.confirmed}", timeout=_SEND_S
                )
            except MessagingError as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                continue
            self.confirmed += 1
            self.publishing.note()
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def handle(self, message: Message) -> None:
        number = int(message.data)
        self.late += number < self.latest
        self.latest = max(self.latest, number)
        self.handled[number] += 1
        self.handling.note()

    def lacks(self, count: int) -> int:
        """Return how many of the first messages nobody has handled."""
        return sum(number not in self.handled for number in range(count))


class Load:
    """200 confirmed messages a second over some queues, by a thread of its own. Times are in seconds."""

    def __init__(self, connect: Connect, routes: Sequence[tuple[str, str]]) -> None:
        self._connect = connect
        self._lanes = [_Lane(module, action) for module, action in routes]
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._marked = 0
        self._begun: Future[None] = Future()

    def mark(self) -> None:
        """Count gaps from now on."""

        async def restart() -> None:
            for lane in self._lanes:
                lane.publishing.restart()
                lane.handling.restart()
            self._marked = self._confirmed

        self._ask(restart())

    def flows(self, *, messages: int = 5) -> None:
        """Return once every queue has had so many more messages confirmed and handled. Raises TimeoutError."""

        async def flowing() -> None:
            goals = [(lane, lane.confirmed + messages) for lane in self._lanes]
            await eventually_async(
                lambda: all(min(lane.confirmed, lane.latest + 1) >= goal for lane, goal in goals), _SETTLE_S, every=0.05
            )

        self._ask(flowing())

    def outcome(self) -> Outcome:
        """Return what became of all messages, once none is on its way any more, or the time for it is over."""

        async def settled() -> Outcome:
            before = [(lane, lane.confirmed) for lane in self._lanes]
            with suppress(TimeoutError):  # what is missing then counts as lost
                await eventually_async(lambda: not any(lane.lacks(n) for lane, n in before), _SETTLE_S, every=0.1)
            return self._outcome(before)

        return self._ask(settled())

    def run(self) -> None:
        """Run until `end`."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:
            if not self._begun.done():
                self._begun.set_exception(error)
                return
            raise

    def begun(self) -> None:
        """Return once messages flow, or raise what keeps them from it."""
        self._begun.result(_SETTLE_S)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _run(self) -> None:
        store = MemoryIdempotency()
        consumers = [await self._connect(application="load", idempotency=store) for _ in range(_CLIENTS)]
        publishers = [await self._connect(application="load") for _ in range(_CLIENTS)]
        for number, lane in enumerate(self._lanes):
            consuming = consumers[number % _CLIENTS].module(lane.module)
            await consuming.consume(lane.action, lane.handle, concurrency=1, prefetch=20)
        async with asyncio.TaskGroup() as group:
            for number, lane in enumerate(self._lanes):
                sending = lane.publish(publishers[number % _CLIENTS], len(self._lanes) / _PER_SECOND, self._ended)
                group.create_task(sending)
            self._begun.set_result(None)
        await asyncio.gather(*(client.close() for client in (*publishers, *consumers)))

    @property
    def _confirmed(self) -> int:
        return sum(lane.confirmed for lane in self._lanes)

    def _outcome(self, until: Sequence[tuple[_Lane, int]]) -> Outcome:
        lanes = self._lanes
        return Outcome(
            confirmed=self._confirmed - self._marked,
            failed=[error for lane in lanes for error in lane.failed],
            lost=sum(lane.lacks(count) for lane, count in until),
            handled_twice=sum(times > 1 for lane in lanes for times in lane.handled.values()),
            late=sum(lane.late for lane in lanes),
            gap_s=max(lane.publishing.now for lane in lanes),
            handling_gap_s=max(lane.handling.now for lane in lanes),
        )

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()


@contextmanager
def load(connect: Connect, routes: Sequence[tuple[str, str]]) -> Iterator[Load]:
    """Keep up the load for the block."""
    made = Load(connect, routes)
    thread = threading.Thread(target=made.run, name="load")
    thread.start()
    try:
        made.begun()
        made.flows()
        yield made
    finally:
        made.end()
        thread.join(_SETTLE_S)
