"""Moving dead letters, queue after queue. Nothing is taken off before the broker has confirmed its copy."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika.abc import AbstractConnection
from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.failures import too_large
from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.amqp.wire import UNREADABLE_HEADER
from kryonix.messaging.redrive.dead_letters import Origin, marked, origin, run_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["PATIENCE", "Mover", "Tally", "open_channel"]

_AT_A_TIME: Final = 32
"""Messages whose confirmations are on the way together: what a kill may make arrive twice."""
PATIENCE: Final = 30.0
"""Seconds for one answer of the broker."""
_REASONS: Final = 3
"""Reasons that are kept of each queue."""


@dataclass(slots=True)
class Tally:
    """What became of one dead-letter queue."""

    module: str
    action: str
    queue: str
    found: int
    """Dead letters in it at the beginning."""
    moved: int = 0
    without_origin: int = 0
    """Left where they are: they don't say where they came from, or what they say leads nowhere now."""
    uncopyable: int = 0
    """Left where they are: what was read can't be written again, or is more than the broker takes."""
    uncopyable_because: list[str] = field(default_factory=list)
    """The first few reasons."""
    again: int = 0
    """Moved by this run, and dead again before its end. Left for the next."""
    refused: str | None = None
    """Why the broker took no more; the queue was left at that."""

    def cant_be_copied(self, reason: str) -> None:
        self.uncopyable += 1
        if reason not in self.uncopyable_because and len(self.uncopyable_because) < _REASONS:
            self.uncopyable_because.append(reason)


class _CantBeCopied(Exception):
    """A dead letter that stays, and why."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A dead letter and what is published in its place."""

    message: DeliveredMessage
    target: Origin
    properties: ExactProperties

    @property
    def tag(self) -> int:
        return self.message.delivery_tag or 0


async def open_channel(connection: AbstractConnection, confirmed: bool = False) -> AbstractChannel:
    opened = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
    return await opened.get_underlay_channel()


class Mover:
    """Moves messages from queue after queue, until the limit."""

    def __init__(
        self,
        connection: AbstractConnection,
        names: Names,
        catalog: Catalog,
        limit: int | None,
        report: Callable[[Tally], None],
    ) -> None:
        self._connection, self._names, self._catalog = connection, names, catalog
        self._limit, self._report = limit, report
        self._run = uuid.uuid4().hex
        self._moved = 0

    async def open(self) -> None:
        self._reading = await open_channel(self._connection)
        self._publishing = await open_channel(self._connection, confirmed=True)

    async def empty(self, tally: Tally) -> None:
        """Move what can be moved. The rest is held until the end, so that each message is seen once, and given back."""
        held: list[int] = []
        ended = False
        while not ended and tally.refused is None:
            batch, ended = await self._batch(tally, held)
            await self._move(batch, tally, held)
            self._report(tally)
        for tag in held:
            await self._reading.basic_nack(tag, requeue=True)

    async def _batch(self, tally: Tally, held: list[int]) -> tuple[list[_Copy], bool]:
        """The next messages to move, and whether they are the last."""
        batch: list[_Copy] = []
        ids: set[str] = set()
        while len(batch) < _AT_A_TIME:
            if self._limit is not None and self._moved + len(batch) >= self._limit:
                return batch, True
            message = await self._reading.basic_get(tally.queue, timeout=PATIENCE)
            if message.delivery_tag is None:
                return batch, True
            try:
                copy = self._copy(message, tally)
            except _CantBeCopied as error:
                tally.cant_be_copied(str(error))
                copy = None
            if copy is None:
                held.append(message.delivery_tag)
                continue
            message_id = message.header.properties.message_id
            if message_id in ids:
                # The broker names a message that it returns by its id alone: no two of one id may be on the way.
                await self._reading.basic_nack(message.delivery_tag, requeue=True)
                return batch, False
            batch.append(copy)
            if message_id is not None:
                ids.add(message_id)
        return batch, False

    def _copy(self, message: DeliveredMessage, tally: Tally) -> _Copy | None:
        """What is published in its place; None where it stays for now. Raises _CantBeCopied."""
        headers = dict(message.header.properties.headers or {})
        if UNREADABLE_HEADER in headers:
            raise _CantBeCopied(f"its properties can't be read: {headers[UNREADABLE_HEADER]!s}")
        if run_of(headers) == self._run:
            tally.again += 1
            return None
        priority = message.header.properties.priority or 0
        found = origin(headers, priority, self._names, self._catalog, tally.module, tally.action)
        if found is None:
            tally.without_origin += 1
            return None
        try:
            properties = _properties(message, self._run)
            size = properties.frame_size
        except Exception as error:  # what another application has written raises whatever it likes
            raise _CantBeCopied(f"its properties can't be written: {str(error) or type(error).__name__}") from error
        largest = self._publishing.connection.connection_tune.frame_max or sys.maxsize
        if size > largest:
            raise _CantBeCopied(f"its headers are {size:,} bytes, the broker takes at most {largest:,}")
        return _Copy(message, found, properties)

    async def _move(self, batch: Sequence[_Copy], tally: Tally, held: list[int]) -> None:
        """Publish all at once. What a closed channel leaves open is published again one by one, so that the message
        that it was closed for is found, and no other stays for it."""
        outcomes = await asyncio.gather(*(self._publish(copy) for copy in batch), return_exceptions=True)
        left = [
            copy
            for copy, outcome in zip(batch, outcomes, strict=True)
            if not await self._settle(copy, outcome, tally, held)
        ]
        for copy in left:
            if tally.refused is not None:
                held.append(copy.tag)
                continue
            (outcome,) = await asyncio.gather(self._publish(copy), return_exceptions=True)
            if not await self._settle(copy, outcome, tally, held):
                assert outcome is not None  # noqa: S101 - what was confirmed is settled
                self._stays(copy, outcome, tally, held)

    async def _settle(self, copy: _Copy, outcome: BaseException | None, tally: Tally, held: list[int]) -> bool:
        """Whether it is known what becomes of the message. Raises what has ended the connection."""
        if outcome is None:
            await self._reading.basic_ack(copy.tag)
            tally.moved += 1
            self._moved += 1
            return True
        if isinstance(outcome, amqp.DeliveryError):
            tally.refused = _refusal(outcome)
            held.append(copy.tag)
            return True
        if isinstance(outcome, OSError):
            # Of a connection, or a TimeoutError; aiormq's own connection errors are among them.
            raise outcome
        if self._publishing.is_closed:
            self._publishing = await open_channel(self._connection, confirmed=True)
        limit = too_large(outcome)
        if limit is None or len(copy.message.body) <= limit:
            return False
        held.append(copy.tag)
        tally.cant_be_copied(f"it is {len(copy.message.body):,} bytes, the broker takes at most {limit:,}")
        return True

    @staticmethod
    def _stays(copy: _Copy, outcome: BaseException, tally: Tally, held: list[int]) -> None:
        held.append(copy.tag)
        reason = str(outcome) or type(outcome).__name__
        if isinstance(outcome, amqp.ChannelAccessRefused | amqp.ChannelNotFoundEntity):
            tally.refused = reason  # it would be the same for every other
        else:
            tally.cant_be_copied(f"the broker refuses its copy: {reason}")

    async def _publish(self, copy: _Copy) -> None:
        """Publish the copy, and wait until it is stored."""
        async with asyncio.timeout(PATIENCE):
            await self._publishing.basic_publish(
                bytes(copy.message.body),
                exchange=copy.target.exchange,
                routing_key=copy.target.routing_key,
                properties=copy.properties,
                mandatory=True,
            )


def _properties(message: DeliveredMessage, run: str) -> ExactProperties:
    """All of its own properties but the user, who need not be the one who moves it, and the mark."""
    properties = message.header.properties
    own: dict[str, Any] = {
        name: getattr(properties, name)
        for name in (
            "content_type",
            "content_encoding",
            "priority",
            "correlation_id",
            "reply_to",
            "expiration",
            "message_id",
            "timestamp",
            "message_type",
            "app_id",
        )
    }
    headers = marked(dict(properties.headers or {}), run)
    return ExactProperties(milliseconds=True, **own, delivery_mode=2, headers=headers)


def _refusal(error: amqp.DeliveryError) -> str:
    return "no queue takes it" if isinstance(error, amqp.PublishError) else "its queue is full"
