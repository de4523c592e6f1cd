"""Messages one by one in an `async for`, instead of a handler."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Self

from kryonix.messaging.consuming.inbox import Inbox, Receiver
from kryonix.messaging.consuming.work import Source, Work
from kryonix.messaging.errors import ConfigurationError, Reject, Retry
from kryonix.messaging.message import Message
from kryonix.messaging.tracing import failed, process_span
from kryonix.messaging.transport import ANSWER_WITHIN_S, Subscription


class Item:
    """A message of a stream. Handle it within `async with item as message`.

    The message is done at the end of the block. `raise Retry()` and `raise Reject(reason)` work as in a handler, and
    end the block without an error; any other exception is a retry, and is raised to the caller.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._span = ExitStack()

    async def __aenter__(self) -> Message:
        message = self._work.message
        span = process_span(message.route.queue, message.message_id, message.attempt, message.headers)
        self._current = self._span.enter_context(span)
        return message

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        with self._span:
            if error is None:
                await self._work.done()
                return False
            failed(self._current, error)
            if isinstance(error, Reject):
                await self._work.reject(error.reason)
            elif isinstance(error, Exception):
                await self._work.retry()
            else:
                await self._work.give_back()
            return isinstance(error, (Reject, Retry))


class Stream:
    """Messages of one action: `async with client.stream(…) as stream`, then `async for item in stream`."""

    def __init__(self, source: Source, prefetch: int, timeout: float) -> None:
        self._source, self._prefetch, self._timeout = source, prefetch, timeout
        self._receiver, self._inbox = Receiver(source), Inbox(source.queues)
        self._subscription: Subscription | None = None
        self._entered = False
        self._taken: set[Work] = set()

    @property
    def ended(self) -> bool:
        """True after the `async with` block."""
        return self._entered and self._subscription is None

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("a stream cannot be entered twice", remedy="Ask the client for another one")
        self._entered = True
        self._subscription = await self._source.transport.subscribe(
            self._source.queues, self._prefetch, self._inbox.put, self._timeout, ANSWER_WITHIN_S
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if not self._entered:
            raise ConfigurationError("the stream is not open", remedy="Write `async with` before `async for`")
        while (delivery := await self._inbox.get()) is not None:
            work = await self._receiver.receive(delivery)
            self._taken = {taken for taken in self._taken if not taken.settled}
            if work is not None:
                self._taken.add(work)
                return Item(work)
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the iteration, and give back unhandled messages."""
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        await subscription.cancel()
        left = [work.give_back() for work in self._taken if not work.settled]
        await asyncio.gather(*left, *(delivery.give_back() for delivery in self._inbox.close()))
        await subscription.close()
