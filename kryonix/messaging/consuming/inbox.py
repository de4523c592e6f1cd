"""Deliveries that wait for a worker: those of a high lane first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from kryonix.messaging.transport import Delivery

__all__ = ["Inbox"]


class Inbox:
    """A queue per broker queue, in the order given. The broker's prefetch bounds it.

    What is lost before anybody takes it is dropped: the broker delivers it again.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._waiting: dict[str, deque[Delivery]] = {queue: deque() for queue in queues}
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def put(self, delivery: Delivery) -> None:
        waiting = self._waiting[delivery.queue]
        while waiting and waiting[0].lost:
            waiting.popleft()
        waiting.append(delivery)
        self._wake()

    async def get(self) -> Delivery | None:
        """The next delivery; None once the inbox is closed."""
        while True:
            for waiting in self._waiting.values():
                while waiting:
                    if not (delivery := waiting.popleft()).lost:
                        delivery.begin()
                        return delivery
            if self._closed:
                return None
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake()
                raise

    def close(self) -> list[Delivery]:
        """Hand out no more; return what nobody has taken."""
        self._closed = True
        left = [delivery for waiting in self._waiting.values() for delivery in waiting]
        for waiting in self._waiting.values():
            waiting.clear()
        for taker in self._takers:
            if not taker.done():
                taker.set_result(None)
        return left

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return
