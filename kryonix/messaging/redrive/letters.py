"""Read dead letters without taking them, and discard chosen ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from aiormq.abc import DeliveredMessage

from kryonix.messaging.configuration import Address
from kryonix.messaging.message import Header
from kryonix.messaging.redrive import Reading, Routes, Tally, connected, existing_queues
from kryonix.messaging.redrive.dead_letters import deaths_of, origin, reason_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter as it was read. None for what nothing in the message tells."""

    module: str
    action: str
    queue: str
    message_id: str | None
    reason: str
    died_at: datetime | None
    """By the clock of what made it a dead letter: the SDK's application, else the broker."""
    sent_at: datetime | None
    attempts: int | None
    redrives: int
    exchange: str | None
    """Origin: where a redrive would send it."""
    routing_key: str | None
    priority: int
    application: str | None
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, Any] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells this letter from others of its queue, at every reading."""
        return self.queue, self.message_id, self.died_at, self.sent_at, self.body


async def peek(
    address: Address, catalog: Catalog, routes: Routes, ids: Collection[str] = (), limit: int | None = None
) -> list[DeadLetter]:
    """Return dead letters of the routes, each queue's oldest first, and leave them where they are.

    `ids` selects message ids. Raises like `redrive`.
    """
    found: list[DeadLetter] = []
    async with aclosing(_read(address, catalog, routes)) as letters:
        async for letter, _ in letters:
            if not ids or letter.message_id in ids:
                found.append(letter)
            if len(found) == limit:
                break
    return found


async def discard(
    address: Address, catalog: Catalog, letters: Sequence[DeadLetter], record: Callable[[DeadLetter], None]
) -> int:
    """Remove those of the letters that are still there, each after `record` has returned. Return their number."""
    left = Counter(letter.identity for letter in letters)
    routes = list(dict.fromkeys((letter.module, letter.action) for letter in letters))
    async with aclosing(_read(address, catalog, routes)) as found:
        async for letter, remove in found:
            if left[letter.identity]:
                record(letter)
                await remove()
                left[letter.identity] -= 1
            if not left.total():
                break
    return len(letters) - left.total()


async def _read(
    address: Address, catalog: Catalog, routes: Routes
) -> AsyncGenerator[tuple[DeadLetter, Callable[[], Awaitable[None]]], None]:
    """Yield each letter, and the function that removes it. Close the generator to give the others back."""
    names = Names(address.tenant_id)
    async with connected(address, f"{names.tenant_id}/kryonix dead-letters") as connection:
        queues = await existing_queues(connection, names, routes)
        channel = await connection.open_channel()
        for queue in queues:
            async with Reading(channel, queue.queue) as reading:
                while (message := await reading.next()) is not None:
                    yield _letter(message, queue, names, catalog), partial(reading.remove, message)


def _letter(message: DeliveredMessage, queue: Tally, names: Names, catalog: Catalog) -> DeadLetter:
    properties = message.header.properties
    headers = dict(properties.headers or {})
    priority, redrives = properties.priority or 0, headers.get(Header.REDRIVES)
    source = origin(headers, priority, names, catalog, queue.module, queue.action)
    reason = reason_of(headers)
    return DeadLetter(
        module=queue.module,
        action=queue.action,
        queue=queue.queue,
        message_id=properties.message_id,
        reason=reason,
        died_at=_died_at(headers),
        sent_at=properties.timestamp,
        attempts=_attempts(headers, reason, catalog),
        redrives=redrives if isinstance(redrives, int) else 0,
        exchange=source.exchange if source else None,
        routing_key=source.routing_key if source else None,
        priority=priority,
        application=properties.app_id,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=headers,
        body=bytes(message.body),
    )


def _died_at(headers: Mapping[str, Any]) -> datetime | None:
    if isinstance(noted := headers.get(Header.DIED), datetime):
        return noted
    times = [death.get("time") for death in deaths_of(headers)]
    return max((time for time in times if isinstance(time, datetime)), default=None)


def _attempts(headers: Mapping[str, Any], reason: str, catalog: Catalog) -> int | None:
    """Return the number of attempts: counted by the SDK, or known from the broker's reason."""
    if isinstance(noted := headers.get(Header.ATTEMPTS), int):
        return noted
    failures = headers.get(Header.FAILURES)
    if isinstance(failures, int):
        return failures + 1
    return catalog.retry.limit + 1 if reason == "delivery_limit" else None
