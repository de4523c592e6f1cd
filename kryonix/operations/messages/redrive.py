"""Putting dead letters back where they came from. Nothing is taken off before the broker has confirmed its copy."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aio_pika
from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.failures import BROKEN, not_connected, told_apart
from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.amqp.wire import TakingCare
from kryonix.messaging.configuration import Address
from kryonix.operations.errors import InvalidChoice, ServiceUnreachable
from kryonix.operations.messages.dead_letters import Origin, marked, origin, run_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["Tally", "redrive"]

_AT_A_TIME: Final = 32
"""Messages whose confirmations are on the way together: what a kill may make arrive twice."""
_PATIENCE: Final = 30.0
"""Seconds for one answer of the broker."""

Route = tuple[str, str]


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
    again: int = 0
    """Moved by this run, and dead again before its end. Left for the next."""
    refused: str | None = None
    """Why the broker took no more; the queue was left at that."""


async def redrive(
    address: Address,
    catalog: Catalog,
    routes: Sequence[Route],
    limit: int | None,
    dry_run: bool,
    report: Callable[[Tally], None],
) -> list[Tally]:
    """Move the dead letters of the routes, `limit` of them at most, and `report` every queue's tally as it grows.

    Killed at any moment it loses nothing: what was confirmed and not yet taken off is there twice, with the same
    message id. Run again it goes on. Raises ServiceUnreachable where the broker goes away, InvalidChoice
    where the tenant has none of the queues.
    """
    names = Names(address.tenant_id)
    async with _connected(address) as connection:
        tallies = [tally async for tally in _found(connection, names, routes)]
        if not tallies:
            raise InvalidChoice(
                f"{names.tenant_id} has no dead-letter queue of what is asked for: it has other modules"
            )
        for tally in tallies:
            report(tally)
        if dry_run:
            return tallies
        reading = await _channel(connection)
        publishing = await _channel(connection, confirmed=True)
        mover = _Mover(names, catalog, reading, publishing, limit, report)
        for tally in tallies:
            await mover.empty(tally)
    return tallies


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    name = f"{address.tenant_id}/kryonix redrive"
    try:
        async with asyncio.timeout(_PATIENCE):
            # A dead letter may be dead because its properties can't be read; it must not end the redrive.
            connection = await aio_pika.connect(
                address.uri(), client_properties={"connection_name": name}, connection_class=TakingCare
            )
        try:
            with told_apart():
                yield connection
        finally:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.close()
    except (*BROKEN, TimeoutError) as error:
        failure = not_connected(address.place, address.username, error)
        raise ServiceUnreachable(f"{failure}. Nothing is lost; run the same command again to go on") from error


async def _channel(connection: aio_pika.abc.AbstractConnection, confirmed: bool = False) -> AbstractChannel:
    opened = await connection.channel(publisher_confirms=confirmed, on_return_raises=confirmed)
    return await opened.get_underlay_channel()


async def _found(
    connection: aio_pika.abc.AbstractConnection, names: Names, routes: Sequence[Route]
) -> AsyncIterator[Tally]:
    """The dead-letter queues of the routes that are there, asked by a passive declaration, which changes nothing."""
    asking = await _channel(connection)
    for module, action in routes:
        queue = names.dead_letter_queue(module, action)
        try:
            # A busy broker says 0 when it has no answer in time: a 0 is asked for twice.
            found = await _count(asking, queue) or await _count(asking, queue)
        except amqp.ChannelNotFoundEntity:
            asking = await _channel(connection)
            continue
        yield Tally(module, action, queue, found)


async def _count(asking: AbstractChannel, queue: str) -> int:
    return (await asking.queue_declare(queue, passive=True, timeout=_PATIENCE)).message_count or 0


class _Mover:
    """Moves messages from queue after queue, until the limit."""

    def __init__(
        self,
        names: Names,
        catalog: Catalog,
        reading: AbstractChannel,
        publishing: AbstractChannel,
        limit: int | None,
        report: Callable[[Tally], None],
    ) -> None:
        self._names, self._catalog, self._limit, self._report = names, catalog, limit, report
        self._reading, self._publishing = reading, publishing
        self._run = uuid.uuid4().hex
        self._moved = 0

    async def empty(self, tally: Tally) -> None:
        """Move what can be moved. The rest is held until the end, so that each message is seen once, and given back."""
        held: list[DeliveredMessage] = []
        ended = False
        while not ended and tally.refused is None:
            batch, ended = await self._batch(tally, held)
            await self._move(batch, tally, held)
            self._report(tally)
        for message in held:
            await self._reading.basic_nack(message.delivery_tag or 0, requeue=True)

    async def _batch(
        self, tally: Tally, held: list[DeliveredMessage]
    ) -> tuple[list[tuple[DeliveredMessage, Origin]], bool]:
        """The next messages to move, and whether they are the last."""
        batch: list[tuple[DeliveredMessage, Origin]] = []
        ids: set[str] = set()
        while len(batch) < _AT_A_TIME:
            if self._limit is not None and self._moved + len(batch) >= self._limit:
                return batch, True
            message = await self._reading.basic_get(tally.queue, timeout=_PATIENCE)
            if message.delivery_tag is None:
                return batch, True
            target = self._target(message, tally)
            if target is None:
                held.append(message)
                continue
            message_id = message.header.properties.message_id
            if message_id in ids:
                # The broker names a message that it returns by its id alone: no two of one id may be on the way.
                await self._reading.basic_nack(message.delivery_tag, requeue=True)
                return batch, False
            batch.append((message, target))
            if message_id is not None:
                ids.add(message_id)
        return batch, False

    def _target(self, message: DeliveredMessage, tally: Tally) -> Origin | None:
        properties = message.header.properties
        headers = dict(properties.headers or {})
        if run_of(headers) == self._run:
            tally.again += 1
            return None
        found = origin(headers, properties.priority or 0, self._names, self._catalog, tally.module, tally.action)
        tally.without_origin += found is None
        return found

    async def _move(
        self, batch: Sequence[tuple[DeliveredMessage, Origin]], tally: Tally, held: list[DeliveredMessage]
    ) -> None:
        outcomes = await asyncio.gather(
            *(self._publish(message, target) for message, target in batch), return_exceptions=True
        )
        broken: BaseException | None = None
        for (message, _), outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                await self._reading.basic_ack(message.delivery_tag or 0)
                tally.moved += 1
                self._moved += 1
            elif isinstance(outcome, amqp.DeliveryError):
                tally.refused = _refusal(outcome)
                held.append(message)
            else:
                broken = outcome
        if broken is not None:
            # aiormq cancels what waits on a connection that has broken.
            raise broken if isinstance(broken, BROKEN) else ConnectionError("the connection broke") from broken

    async def _publish(self, message: DeliveredMessage, target: Origin) -> None:
        """Publish the copy, and wait until it is stored."""
        async with asyncio.timeout(_PATIENCE):
            await self._publishing.basic_publish(
                bytes(message.body),
                exchange=target.exchange,
                routing_key=target.routing_key,
                properties=_properties(message, self._run),
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
    return ExactProperties(**own, delivery_mode=2, headers=marked(dict(properties.headers or {}), run))


def _refusal(error: amqp.DeliveryError) -> str:
    return "no queue takes it" if isinstance(error, amqp.PublishError) else "its queue is full"
