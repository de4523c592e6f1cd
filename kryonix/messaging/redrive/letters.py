"""Read dead letters without taking them, and discard chosen ones.

A letter that was read is given back by `nack`, perhaps at another place: no delivery is counted. `reject` counts one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.wire import TolerantConnection
from kryonix.messaging.configuration import Address
from kryonix.messaging.message import ATTEMPTS_HEADER, DIED_HEADER, FAILURES_HEADER
from kryonix.messaging.redrive import connected, existing_queues
from kryonix.messaging.redrive.dead_letters import REDRIVES_HEADER, deaths_of, origin, reason_of
from kryonix.messaging.redrive.mover import ANSWER_S, Tally, open_channel
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
    address: Address,
    catalog: Catalog,
    routes: Sequence[tuple[str, str]],
    ids: Collection[str] = (),
    limit: int | None = None,
) -> list[DeadLetter]:
    """Return dead letters of the routes (module, action), each queue's oldest first, and leave them where they are.

    `ids` selects message ids. Raises like `redrive`.
    """
    found: list[DeadLetter] = []

    def keep(letter: DeadLetter) -> bool:
        if not ids or letter.message_id in ids:
            found.append(letter)
        return False

    await _read(address, catalog, routes, keep, lambda: limit is not None and len(found) >= limit)
    return found


async def discard(
    address: Address, catalog: Catalog, letters: Sequence[DeadLetter], record: Callable[[DeadLetter], None]
) -> int:
    """Remove those of the letters that are still there, each after `record` has returned. Return their number."""
    left = Counter(letter.identity for letter in letters)

    def take(letter: DeadLetter) -> bool:
        if not left[letter.identity]:
            return False
        record(letter)
        left[letter.identity] -= 1
        return True

    routes = list(dict.fromkeys((letter.module, letter.action) for letter in letters))
    await _read(address, catalog, routes, take, lambda: not left.total())
    return len(letters) - left.total()


async def _read(
    address: Address,
    catalog: Catalog,
    routes: Sequence[tuple[str, str]],
    take: Callable[[DeadLetter], bool],
    enough: Callable[[], bool],
) -> None:
    """Call `take` with each letter; acknowledge it after True, else give it back once its queue is read."""
    names = Names(address.tenant_id)
    async with connected(address, f"{names.tenant_id}/kryonix dead-letters", TolerantConnection) as connection:
        queues = await existing_queues(connection, names, routes)
        channel = await open_channel(connection)
        for queue in queues:
            if not enough():
                await _read_queue(channel, queue, names, catalog, take, enough)


async def _read_queue(
    channel: AbstractChannel,
    queue: Tally,
    names: Names,
    catalog: Catalog,
    take: Callable[[DeadLetter], bool],
    enough: Callable[[], bool],
) -> None:
    held: list[int] = []
    try:
        while not enough():
            message = await channel.basic_get(queue.queue, timeout=ANSWER_S)
            if (tag := message.delivery_tag) is None:
                return
            held.append(tag)
            if take(_letter(message, queue, names, catalog)):
                await channel.basic_ack(tag)
                held.pop()
    finally:
        if not channel.is_closed:
            for tag in held:
                await channel.basic_nack(tag, requeue=True)


def _letter(message: DeliveredMessage, queue: Tally, names: Names, catalog: Catalog) -> DeadLetter:
    properties = message.header.properties
    headers = dict(properties.headers or {})
    priority, redrives = properties.priority or 0, headers.get(REDRIVES_HEADER)
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
    if isinstance(noted := headers.get(DIED_HEADER), datetime):
        return noted
    times = [death.get("time") for death in deaths_of(headers)]
    return max((time for time in times if isinstance(time, datetime)), default=None)


def _attempts(headers: Mapping[str, Any], reason: str, catalog: Catalog) -> int | None:
    """Return the number of attempts: counted by the SDK, or known from the broker's reason."""
    if isinstance(noted := headers.get(ATTEMPTS_HEADER), int):
        return noted
    failures = headers.get(FAILURES_HEADER)
    if isinstance(failures, int):
        return failures + 1
    return catalog.retry.limit + 1 if reason == "delivery_limit" else None
