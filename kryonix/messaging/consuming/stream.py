"""Messages one by one in an `async for`, instead of a handler."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Generic, Self

from kryonix.messaging.consuming.receiver import Receiver
from kryonix.messaging.consuming.work import Source, Work
from kryonix.messaging.errors import ConfigurationError, Reject, Retry
from kryonix.messaging.message import Data_co, Message
from kryonix.messaging.tracing import processing


class Item(Generic[Data_co]):
    """A message of a stream. Handle it within `async with item as message`.

    The message is done at the end of the block. `raise Retry()` and `raise Reject(reason)` work as in a handler, and
    end the block without an error; any other exception is a retry, and is raised to the caller.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._span = ExitStack()

    async def __aenter__(self) -> Message[Data_co]:
        self._work.begin()
        self._operation = self._span.enter_context(processing(self._work.message, self._work.server))
        return self._work.message

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        with self._span:
            if error is None:
                await self._work.done()
                return False
            self._operation.failed(error)
            if isinstance(error, Reject):
                await self._work.reject(error.reason)
            elif isinstance(error, Exception):
                await self._work.retry()
            else:
                await self._work.give_back()
            return isinstance(error, (Reject, Retry))


class Stream(Generic[Data_co]):
    """Messages of one action: `async with client.stream(…) as stream`, then `async for item in stream`."""

    def __init__(self, source: Source, prefetch: int, timeout: float) -> None:
        self._prefetch, self._timeout = prefetch, timeout
        self._receiver = Receiver(source)
        self._entered = self._open = False
        self._taken: set[Work] = set()

    @property
    def ended(self) -> bool:
        """True after the `async with` block."""
        return self._entered and not self._open

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("a stream cannot be entered twice", remedy="Ask the client for another one")
        self._entered = True
        await self._receiver.open(self._prefetch, self._timeout)
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item[Data_co]:
        if not self._entered:
            raise ConfigurationError("the stream is not open", remedy="Write `async with` before `async for`")
        work = await self._receiver.next()
        if work is None:
            raise StopAsyncIteration
        self._taken = {work, *(taken for taken in self._taken if not taken.settled)}
        return Item(work)

    async def close(self) -> None:
        """End the iteration, and give back unhandled messages."""
        if self._open:
            self._open = False
            await self._receiver.cancel()
            await asyncio.gather(*(work.give_back() for work in self._taken if not work.settled))
            await self._receiver.close()
