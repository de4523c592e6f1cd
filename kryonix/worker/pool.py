"""The consumers of one action in a worker: as many as are wanted, each ended only after it has drained."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from kryonix.messaging import Consumer, Handler, MessagingClient

__all__ = ["ConsumerOptions", "Crew"]


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How each consumer works."""

    concurrency: int
    """Messages it handles at the same time."""
    prefetch: int
    """Messages it is handed ahead."""
    handler_timeout: float
    """Seconds."""
    drain: float
    """Seconds its handlers have to finish when it is ended; then their messages are given back."""


class Crew:
    """Consumers of one action."""

    def __init__(
        self, client: MessagingClient, module: str, action: str, handler: Handler, options: ConsumerOptions
    ) -> None:
        self.module, self.action = module, action
        self._client, self._handler, self._options = client, handler, options
        self._consumers: list[Consumer] = []
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Consumers that take messages."""
        return len(self._consumers)

    @property
    def draining(self) -> int:
        """Consumers that take no more and let their handlers finish."""
        return len(self._ending)

    async def resize(self, wanted: int) -> None:
        """Start or end consumers. Raises MessagingError where one can't be started; those before it stay."""
        while len(self._consumers) < wanted:
            self._consumers.append(await self._started())
        while len(self._consumers) > wanted:
            self._end(self._consumers.pop())

    async def stop(self) -> None:
        """End all, and wait until the last one has."""
        await self.resize(0)
        await asyncio.gather(*self._ending)

    async def _started(self) -> Consumer:
        module: Any = self.module  # the catalog may know more than the SDK's types: handlers were checked against it
        action: Any = self.action
        return await self._client.consume(
            module,
            action,
            self._handler,
            concurrency=self._options.concurrency,
            prefetch=self._options.prefetch,
            handler_timeout=self._options.handler_timeout,
        )

    def _end(self, consumer: Consumer) -> None:
        task = asyncio.create_task(consumer.stop(self._options.drain), name=f"drain {consumer.route}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
