"""A handler that records messages and can be awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from kryonix.messaging import Message

__all__ = ["Seen", "eventually"]


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
        await eventually(lambda: len(self.messages) >= count, within)
        return self.messages


async def eventually(holds: Callable[[], bool], within: float = 60) -> None:
    """Wait until something holds. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)
