"""Sending many messages with their confirmations on the way at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass

from kryonix.messaging.errors import ConfigurationError, MessagingError
from kryonix.messaging.message import Outgoing, SendResult
from kryonix.messaging.publishing.sender import Sender

__all__ = ["Batch", "send_all"]


@dataclass(frozen=True, slots=True)
class Batch:
    """How the messages of `send_many` ended, each list in the order in which they were given."""

    sent: tuple[SendResult, ...]
    failed: tuple[tuple[Outgoing, MessagingError], ...]
    """What was not confirmed, and why."""

    def raise_for_failed(self) -> None:
        """Raise an ExceptionGroup of all that went wrong, if anything did."""
        if self.failed:
            raise ExceptionGroup(f"{len(self.failed)} messages were not sent", [error for _, error in self.failed])


async def send_all(
    sender: Sender, messages: Iterable[Outgoing] | AsyncIterable[Outgoing], window: int, timeout: float
) -> Batch:
    """Send each message by one of `window` tasks, which take them from the iterable in turn."""
    if window < 1:
        raise ConfigurationError(f"window {window!r} is below 1", remedy="Pass how many may be on their way, 1 or more")
    source = _numbered(messages)
    turn = asyncio.Lock()
    sent: list[tuple[int, SendResult]] = []
    failed: list[tuple[int, Outgoing, MessagingError]] = []

    async def work() -> None:
        while True:
            async with turn:
                entry = await anext(source, None)
            if entry is None:
                return
            number, message = entry
            try:
                sent.append((number, await sender.send(message, timeout)))
            except MessagingError as error:
                failed.append((number, message, error))

    async with asyncio.TaskGroup() as group:
        for _ in range(window):
            group.create_task(work())
    sent.sort(key=lambda entry: entry[0])
    failed.sort(key=lambda entry: entry[0])
    return Batch(tuple(result for _, result in sent), tuple((message, error) for _, message, error in failed))


async def _numbered(messages: Iterable[Outgoing] | AsyncIterable[Outgoing]) -> AsyncIterator[tuple[int, Outgoing]]:
    number = 0
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield number, message
            number += 1
        return
    for message in messages:
        yield number, message
        number += 1
