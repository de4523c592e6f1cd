"""Move dead letters, queue by queue. An original is acknowledged after the broker has confirmed its copy."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.failures import too_large
from kryonix.messaging.amqp.wire import ExactProperties, copied
from kryonix.messaging.message import UNREADABLE_HEADER
from kryonix.messaging.redrive.dead_letters import Origin, marked, origin, run_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

_BATCH: Final = 32
"""Messages with confirmations in flight. A kill can duplicate this many."""
ANSWER_S: Final = 30.0
"""Time for one answer of the broker."""
_MAX_REASONS: Final = 3
"""Reasons kept per queue."""


@dataclass(slots=True)
class Tally:
    """The outcome for one dead-letter queue."""

    module: str
    action: str
    queue: str
    found: int
    """Dead letters at the start."""
    moved: int = 0
    without_origin: int = 0
    """Left in the queue: the origin is unknown, or no longer leads to the action."""
    uncopyable: int = 0
    """Left in the queue: unreadable, unwritable, or larger than the broker accepts."""
    uncopyable_because: list[str] = field(default_factory=list)
    """The first few reasons."""
    again: int = 0
    """Moved by this run, and dead again before its end. Left for the next run."""
    refused: str | None = None
    """Why the broker took no more; the rest of the queue was left."""

    def cant_be_copied(self, reason: str) -> None:
        self.uncopyable += 1
        if reason not in self.uncopyable_because and len(self.uncopyable_because) < _MAX_REASONS:
            self.uncopyable_because.append(reason)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A dead letter, and the properties and target of its copy."""

    message: DeliveredMessage
    target: Origin
    properties: ExactProperties

    @property
    def tag(self) -> int:
        return self.message.delivery_tag or 0


async def open_channel(connection: AbstractConnection, confirmed: bool = False) -> AbstractChannel:
    opened = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
    return await opened.get_underlay_channel()


@dataclass(slots=True)
class Mover:
    """Move messages from queue after queue, up to a limit."""

    connection: AbstractConnection
    reading: AbstractChannel
    publishing: AbstractChannel
    names: Names
    catalog: Catalog
    limit: int | None
    report: Callable[[Tally], None]
    _run: str = field(default_factory=lambda: uuid.uuid4().hex)
    _moved: int = 0

    async def empty(self, tally: Tally) -> None:
        """Move the movable messages. Hold the others until the end, to see each message once; then give them back."""
        held: list[int] = []
        ended = False
        while not ended and tally.refused is None:
            batch, ended = await self._batch(tally, held)
            await self._move(batch, tally, held)
            self.report(tally)
        for tag in held:
            await self.reading.basic_nack(tag, requeue=True)

    async def _batch(self, tally: Tally, held: list[int]) -> tuple[list[_Copy], bool]:
        """Return the next messages to move, and True if they are the last."""
        batch: list[_Copy] = []
        ids: set[str] = set()
        while len(batch) < _BATCH:
            if self.limit is not None and self._moved + len(batch) >= self.limit:
                return batch, True
            message = await self.reading.basic_get(tally.queue, timeout=ANSWER_S)
            if message.delivery_tag is None:
                return batch, True
            if (copy := self._copy(message, tally)) is None:
                held.append(message.delivery_tag)
                continue
            message_id = message.header.properties.message_id
            if message_id in ids:
                # The broker identifies a returned message by its id alone: no two in flight may share one.
                await self.reading.basic_nack(message.delivery_tag, requeue=True)
                return batch, False
            batch.append(copy)
            if message_id is not None:
                ids.add(message_id)
        return batch, False

    def _copy(self, message: DeliveredMessage, tally: Tally) -> _Copy | None:
        """Return the copy, or None to leave the message: the tally has counted it."""
        headers = dict(message.header.properties.headers or {})
        if UNREADABLE_HEADER in headers:
            tally.cant_be_copied(f"its properties can't be read: {headers[UNREADABLE_HEADER]!s}")
            return None
        if run_of(headers) == self._run:
            tally.again += 1
            return None
        priority = message.header.properties.priority or 0
        found = origin(headers, priority, self.names, self.catalog, tally.module, tally.action)
        if found is None:
            tally.without_origin += 1
            return None
        try:
            properties = copied(message.header.properties, delivery_mode=2, headers=marked(headers, self._run))
            size = properties.frame_size
        except Exception as error:  # noqa: BLE001 - properties of another application may raise anything
            tally.cant_be_copied(f"its properties can't be written: {str(error) or type(error).__name__}")
            return None
        largest = self.publishing.connection.connection_tune.frame_max or sys.maxsize
        if size > largest:
            tally.cant_be_copied(f"its headers are {size:,} bytes, the broker takes at most {largest:,}")
            return None
        return _Copy(message, found, properties)

    async def _move(self, batch: Sequence[_Copy], tally: Tally, held: list[int]) -> None:
        """Publish all at once. If the channel closes, publish the rest one by one: that finds the message to blame."""
        for copy, error in await self._publish_all(batch, tally):
            failed = [(copy, error)]
            if not isinstance(error, amqp.DeliveryError) and tally.refused is None:
                failed = await self._publish_all([copy], tally)
            for _, reason in failed:
                held.append(copy.tag)
                if tally.refused is None:
                    self._blame(copy, reason, tally)

    async def _publish_all(self, copies: Sequence[_Copy], tally: Tally) -> list[tuple[_Copy, BaseException]]:
        """Publish copies, and acknowledge the originals of the stored ones. Return the others with their errors.

        Raises the error that has ended the connection.
        """
        outcomes = await asyncio.gather(*(self._publish(copy) for copy in copies), return_exceptions=True)
        failed: list[tuple[_Copy, BaseException]] = []
        for copy, outcome in zip(copies, outcomes, strict=True):
            if outcome is None:
                await self.reading.basic_ack(copy.tag)
                tally.moved += 1
                self._moved += 1
            else:
                failed.append((copy, outcome))
        for _, error in failed:
            if isinstance(error, OSError):
                # aiormq's connection errors and TimeoutError are OSErrors too.
                raise error
        if self.publishing.is_closed:
            self.publishing = await open_channel(self.connection, confirmed=True)
        return failed

    def _blame(self, copy: _Copy, outcome: BaseException, tally: Tally) -> None:
        """Count a message that was not stored, published alone; or note why the broker takes no other one either."""
        reason, size, limit = str(outcome) or type(outcome).__name__, len(copy.message.body), too_large(outcome)
        if isinstance(outcome, amqp.DeliveryError):
            tally.refused = "no queue takes it" if isinstance(outcome, amqp.PublishError) else "its queue is full"
        elif isinstance(outcome, amqp.ChannelAccessRefused | amqp.ChannelNotFoundEntity):
            tally.refused = reason
        elif limit is not None and size > limit:
            tally.cant_be_copied(f"it is {size:,} bytes, the broker takes at most {limit:,}")
        else:
            tally.cant_be_copied(f"the broker refuses its copy: {reason}")

    async def _publish(self, copy: _Copy) -> None:
        """Publish the copy, and wait until it is stored."""
        async with asyncio.timeout(ANSWER_S):
            await self.publishing.basic_publish(
                bytes(copy.message.body),
                exchange=copy.target.exchange,
                routing_key=copy.target.routing_key,
                properties=copy.properties,
                mandatory=True,
            )
