"""Check that a queue exists before publishing: ask the broker once, then trust the answer for a minute."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

from kryonix.messaging.errors import AccessRefused, NotConnected
from kryonix.messaging.transport import Transport

_TRUSTED_S: Final = 60.0
_QUESTION_S: Final = 10.0


class Reach:
    """The known queues of a broker.

    The alternate exchange takes a message without a queue to `unrouted`, and the broker confirms it as usual: neither
    `mandatory` nor the confirmation tells the difference. So the broker is asked before the first message. A queue
    removed within the minute is noticed late; messages sent meanwhile wait in `unrouted`, they are not lost.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, float] = {}
        self._questions: dict[str, asyncio.Task[bool]] = {}
        self._closed = False

    def is_known(self, queues: Sequence[str]) -> bool:
        """Return True if the broker has confirmed one of the queues within the last minute."""
        oldest = time.monotonic() - _TRUSTED_S
        return any(self._known.get(queue, -math.inf) > oldest for queue in queues)

    async def find(self, queues: Sequence[str], timeout: float) -> bool:
        """Return True if the broker has one of the queues. Raises NotConnected after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for queue in queues:
            if await self._ask(queue, deadline):
                self._known[queue] = time.monotonic()
                return True
            self._known.pop(queue, None)
        return False

    async def _ask(self, queue: str, deadline: float) -> bool:
        """Share one question between all senders; each waits until its own deadline."""
        while not self._closed:
            question = self._questions.get(queue) or self._start(queue)
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    return await asyncio.shield(question)
            except TimeoutError as error:
                raise NotConnected(f"the broker did not say in time whether it has {queue}") from error
            except asyncio.CancelledError:
                # Either close() has cancelled the question, or somebody this task: cancelling() tells.
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
                # Read the exception, or asyncio complains when all senders have given up.
                task.exception()

        question = asyncio.create_task(self._transport.has_queue(queue, _QUESTION_S))
        self._questions[queue] = question
        question.add_done_callback(ended)
        return question

    def close(self) -> None:
        """Cancel the open questions; waiting senders get NotConnected."""
        self._closed = True
        for question in list(self._questions.values()):
            question.cancel()
