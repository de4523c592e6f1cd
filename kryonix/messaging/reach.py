"""Check that a queue exists before publishing: ask the broker once, then trust the answer for a minute."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

from kryonix.messaging.errors import NotConnected
from kryonix.messaging.transport import Transport

_TRUSTED_S: Final = 60.0
_NEVER: Final = (-math.inf, False)


class Reach:
    """The known queues of a broker.

    The alternate exchange takes a message without a queue to `unrouted`, and the broker confirms it as usual: neither
    `mandatory` nor the confirmation tells the difference. So the broker is asked before the first message. A queue
    removed within the minute is noticed late; messages sent meanwhile wait in `unrouted`, they are not lost.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._answers: dict[str, tuple[float, bool]] = {}
        """When the broker answered, and whether it has the queue."""
        self._turn = asyncio.Lock()
        self._waiting: set[asyncio.Timeout] = set()
        self._closed = False

    def is_known(self, queues: Sequence[str]) -> bool:
        """Return True if the broker has confirmed one of the queues within the last minute."""
        oldest = time.monotonic() - _TRUSTED_S
        for queue in queues:
            at, found = self._answers.get(queue, _NEVER)
            if found and at > oldest:
                return True
        return False

    async def find(self, queues: Sequence[str], timeout: float) -> bool:
        """Return True if the broker has one of the queues. Raises NotConnected after `timeout` seconds."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(timeout, 0)) as scope:
                if self._closed:
                    raise TimeoutError
                self._waiting.add(scope)
                try:
                    async with self._turn:
                        scope.reschedule(None)  # the transport has its own deadline, and a reason
                        for queue in queues:
                            if await self._ask(queue, started, timeout):
                                return True
                        return False
                finally:
                    self._waiting.discard(scope)
        except TimeoutError as error:
            if self._closed:
                raise NotConnected("the client is closed", remedy="Connect a new one") from error
            problem = f"the broker did not say in time whether it has {' or '.join(queues)}"
            raise NotConnected(problem) from error

    async def _ask(self, queue: str, started: float, timeout: float) -> bool:
        """Return the broker's answer: another sender's, if it came since `started`."""
        at, found = self._answers.get(queue, _NEVER)
        if at < started:
            left = max(started + timeout - time.monotonic(), 0)
            found = await self._transport.has_queue(queue, left)
            self._answers[queue] = (time.monotonic(), found)
        return found

    def close(self) -> None:
        """Wake the waiting senders: they get NotConnected."""
        self._closed = True
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(0)
