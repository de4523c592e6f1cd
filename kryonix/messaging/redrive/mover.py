"""Put dead letters back where they came from. An original is acknowledged after the broker has confirmed its copy."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.connection import Connection
from kryonix.messaging.amqp.failures import too_large
from kryonix.messaging.amqp.properties import ExactProperties, copied
from kryonix.messaging.configuration import Address
from kryonix.messaging.message import Header
from kryonix.messaging.redrive import ANSWER_S, Reading, Routes, Tally, connected, existing_queues
from kryonix.messaging.redrive.dead_letters import Origin, marked, origin
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

_BATCH: Final = 32
"""Messages with confirmations in flight. A kill can duplicate this many."""


async def redrive(
    address: Address,
    catalog: Catalog,
    routes: Routes,
    limit: int | None,
    dry_run: bool,
    report: Callable[[Tally], None],
) -> list[Tally]:
    """Move the dead letters of the routes, at most `limit`, and `report` each queue's progress.

    Killed at any moment it loses nothing: a message confirmed and not yet acknowledged exists twice, with the same id.
    Run it again to continue. Raises ServiceUnreachable if the broker goes away, InvalidChoice if the tenant has none
    of the queues, KryonixError if the broker refuses something.
    """
    names = Names(address.tenant_id)
    async with connected(address, f"{address.tenant_id}/kryonix redrive") as connection:
        tallies = await existing_queues(connection, names, routes)
        for tally in tallies:
            report(tally)
        if dry_run:
            return tallies
        reading, publishing = await connection.open_channel(), await connection.open_channel(confirmed=True)
        mover = Mover(connection, publishing, names, catalog, limit, report)
        for tally in tallies:
            async with Reading(reading, tally.queue) as letters:
                await mover.empty(letters, tally)
    return tallies


@dataclass(frozen=True, slots=True)
class _Copy:
    """A dead letter, and the properties and target of its copy."""

    message: DeliveredMessage
    target: Origin
    properties: ExactProperties


@dataclass(slots=True)
class Mover:
    """Move messages from queue after queue, up to a limit."""

    connection: Connection
    publishing: AbstractChannel
    names: Names
    catalog: Catalog
    limit: int | None
    report: Callable[[Tally], None]
    _run: str = field(default_factory=lambda: uuid.uuid4().hex)
    _moved: int = 0

    async def empty(self, letters: Reading, tally: Tally) -> None:
        """Move the movable messages, and leave the others."""
        ended = False
        while not ended and tally.refused is None:
            batch, ended = await self._batch(letters, tally)
            await self._move(batch, letters, tally)
            self.report(tally)

    async def _batch(self, letters: Reading, tally: Tally) -> tuple[list[_Copy], bool]:
        """Return the next messages to move, and True if they are the last."""
        batch: list[_Copy] = []
        ids: set[str] = set()
        while len(batch) < _BATCH:
            if self.limit is not None and self._moved + len(batch) >= self.limit:
                return batch, True
            if (message := await letters.next()) is None:
                return batch, True
            if (copy := self._copy(message, tally)) is None:
                continue
            message_id = message.header.properties.message_id
            if message_id in ids:
                # The broker identifies a returned message by its id alone: no two in flight may share one.
                await letters.give_back(message)
                return batch, False
            batch.append(copy)
            if message_id is not None:
                ids.add(message_id)
        return batch, False

    def _copy(self, message: DeliveredMessage, tally: Tally) -> _Copy | None:
        """Return the copy, or None to leave the message: the tally has counted it."""
        headers = dict(message.header.properties.headers or {})
        if Header.UNREADABLE in headers:
            tally.cant_be_copied(f"its properties can't be read: {headers[Header.UNREADABLE]!s}")
            return None
        if headers.get(Header.REDRIVE_RUN) == self._run:
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

    async def _move(self, batch: Sequence[_Copy], letters: Reading, tally: Tally) -> None:
        """Publish all at once. If the channel closes, publish the rest one by one: that finds the message to blame."""
        for copy, error in await self._publish_all(batch, letters, tally):
            failed = [(copy, error)]
            if not isinstance(error, amqp.DeliveryError) and tally.refused is None:
                failed = await self._publish_all([copy], letters, tally)
            if failed and tally.refused is None:
                self._blame(copy, failed[0][1], tally)

    async def _publish_all(
        self, copies: Sequence[_Copy], letters: Reading, tally: Tally
    ) -> list[tuple[_Copy, BaseException]]:
        """Publish copies, and acknowledge the originals of the stored ones. Return the others with their errors.

        Raises the error that has ended the connection.
        """
        outcomes = await asyncio.gather(*(self._publish(copy) for copy in copies), return_exceptions=True)
        failed: list[tuple[_Copy, BaseException]] = []
        for copy, outcome in zip(copies, outcomes, strict=True):
            if outcome is None:
                await letters.remove(copy.message)
                tally.moved += 1
                self._moved += 1
            else:
                failed.append((copy, outcome))
        for _, error in failed:
            if isinstance(error, OSError):
                # aiormq's connection errors and TimeoutError are OSErrors too.
                raise error
        if self.publishing.is_closed:
            self.publishing = await self.connection.open_channel(confirmed=True)
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
