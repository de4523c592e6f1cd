"""Whether a message would reach a queue: asked of the broker once, and believed for a minute."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

from kryonix.messaging.errors import AccessRefused, NotConnected
from kryonix.messaging.transport import Transport

__all__ = ["Reach"]

_KNOWN_FOR: Final = 60.0
"""Seconds for which the broker's answer that a queue is there is believed."""
_ONE_QUESTION: Final = 10.0


class Reach:
    """What is known of the broker's queues.

    A message that no queue takes goes to the `unrouted` queue by the alternate exchange, and the broker confirms it as
    any other: neither `mandatory` nor the confirmation tells. So the broker is asked before the first message. A queue
    that is removed within the minute is noticed late; what is sent meanwhile waits in `unrouted`, it is not lost.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, float] = {}
        self._questions: dict[str, asyncio.Task[bool]] = {}
        self._closed = False

    def is_known(self, queues: Sequence[str]) -> bool:
        """Whether one of the queues is known to be there."""
        oldest = time.monotonic() - _KNOWN_FOR
        return any(self._known.get(queue, -math.inf) > oldest for queue in queues)

    async def find(self, queues: Sequence[str], timeout: float) -> bool:
        """Ask whether one of the queues is there. Raises NotConnected after `timeout` seconds without an answer."""
        deadline = time.monotonic() + timeout
        for queue in queues:
            if await self._ask(queue, deadline):
                self._known[queue] = time.monotonic()
                return True
            self._known.pop(queue, None)
        return False

    async def _ask(self, queue: str, deadline: float) -> bool:
        """One question for all who want to know at the same time, though each waits for as long as it may itself."""
        while not self._closed:
            question = self._questions.get(queue) or self._start(queue)
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    return await asyncio.shield(question)
            except TimeoutError as error:
                raise NotConnected(f"the broker did not say in time whether it has {queue}") from error
            except asyncio.CancelledError:
                # The question was cancelled by close(), or the one who waits by somebody: that shows in cancelling().
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            except AccessRefused:
                raise
            except NotConnected:
                if time.monotonic() >= deadline:
                    raise
        raise NotConnected("the client is closed", remedy="Connect a new one")

    def _start(self, queue: str) -> asyncio.Task[bool]:
        def ended(task: asyncio.Task[bool]) -> None:
            del self._questions[queue]
            if not task.cancelled():
                # Read, or asyncio would complain where everybody has given up waiting.
                task.exception()

        question = asyncio.create_task(self._transport.has_queue(queue, _ONE_QUESTION))
        self._questions[queue] = question
        question.add_done_callback(ended)
        return question

    def close(self) -> None:
        """Whoever waits for an answer is told that there will be none."""
        self._closed = True
        for question in list(self._questions.values()):
            question.cancel()
