"""Sending many messages with their confirmations on the way at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from kryonix.messaging.checks import checked_count, checked_seconds
from kryonix.messaging.errors import ConfigurationError, MessagingError
from kryonix.messaging.message import Outgoing, SendResult
from kryonix.messaging.publishing.sender import Sender

__all__ = ["Batch", "send_all"]

_WIDEST: Final = 10_000
"""Messages on their way at once, each with a task of its own."""


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
    """Send each message by one of `window` tasks, which take them from the iterable in turn.

    An iterable that raises ends the sending: what is on its way is waited for, and the error goes on to the caller.
    """
    window, timeout = checked_count("window", window, _WIDEST), checked_seconds("timeout", timeout)
    if not isinstance(messages, (Iterable, AsyncIterable)):
        raise ConfigurationError(f"{type(messages).__name__} can't be iterated over", remedy="Pass Outgoing messages")
    source = _numbered(messages)
    turn = asyncio.Lock()
    sent: list[tuple[int, SendResult]] = []
    failed: list[tuple[int, Outgoing, MessagingError]] = []
    broken: list[Exception] = []

    async def next_message() -> tuple[int, Outgoing] | None:
        async with turn:
            try:
                return None if broken else await anext(source, None)
            except Exception as error:  # noqa: BLE001 - the iterable is the caller's: whatever it raises is theirs
                broken.append(error)
                return None

    async def work() -> None:
        while (entry := await next_message()) is not None:
            number, message = entry
            try:
                sent.append((number, await sender.send(message, timeout)))
            except MessagingError as error:
                failed.append((number, message, error))

    async with asyncio.TaskGroup() as group:
        for _ in range(window):
            group.create_task(work())
    if broken:
        broken[0].add_note(f"{len(sent)} messages had been sent before, {len(failed)} had not")
        raise broken[0]
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
