"""A handler that records messages and can be awaited."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from kryonix.messaging import Message
from tests.support.waiting import eventually_async

__all__ = ["Seen"]


class Seen:
    """A handler that records its messages and then runs a given action."""

    def __init__(self, then: Callable[[Message], Awaitable[None]] | None = None) -> None:
        self.messages: list[Message] = []
        self.times: list[float] = []
        self._then = then

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self.times.append(time.monotonic())
        if self._then is not None:
            await self._then(message)

    @property
    def attempts(self) -> list[int]:
        return [message.attempt for message in self.messages]

    async def wait(self, count: int, within: float = 60) -> list[Message]:
        await eventually_async(lambda: len(self.messages) >= count, within)
        return self.messages
