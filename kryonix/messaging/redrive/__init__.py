"""Connections to a tenant's vhost that read queues message by message, for operators' commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable
from kryonix.messaging.amqp.cluster import Cluster
from kryonix.messaging.amqp.connection import Connection, connect
from kryonix.messaging.amqp.failures import BROKEN, is_of_connection, not_connected, translate_amqp_errors
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import NotConnected
from kryonix.topology.naming import Names

Routes = Sequence[tuple[str, str]]
"""Modules and actions."""

ANSWER_S: Final = 30.0
"""Time for one answer of the broker."""
_REMEDY: Final = "Nothing is lost; run the same command again to continue"
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


class Reading:
    """A queue's messages, each seen once. Those not removed are given back at the end, perhaps at another place.

    They are given back by `nack`: no delivery is counted. `reject` counts one, and the broker drops a message after 20.
    """

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel, self._queue = channel, queue
        self.held: dict[int, None] = {}
        self.behind = 0
        """Messages that were ready when the last one was read."""

    async def next(self) -> DeliveredMessage | None:
        message = await self._channel.basic_get(self._queue, timeout=ANSWER_S)
        self.behind = message.message_count or 0
        if message.delivery_tag is None:
            return None
        self.held[message.delivery_tag] = None
        return message

    async def waiting(self) -> int:
        """Count the messages held and ready. Exact: a passive declaration says 0 when a busy broker has no answer."""
        await self.next()
        return len(self.held) + self.behind

    async def remove(self, message: DeliveredMessage) -> None:
        await self._channel.basic_ack(message.delivery_tag or 0)
        del self.held[message.delivery_tag or 0]

    async def give_back(self, message: DeliveredMessage) -> None:
        await self._channel.basic_nack(message.delivery_tag or 0, requeue=True)
        del self.held[message.delivery_tag or 0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._channel.is_closed:
            async with asyncio.timeout(ANSWER_S):
                for tag in self.held:
                    await self._channel.basic_nack(tag, requeue=True)


@asynccontextmanager
async def connected(address: Address, name: str) -> AsyncIterator[Connection]:
    """Connect once. Raises KryonixError, or ServiceUnreachable if there is no connection, or it ends."""
    trust = address.trust()

    async def dial(node: Address) -> Connection:
        return await connect(node.uri(), name, trust)

    try:
        async with asyncio.timeout(ANSWER_S):
            _, connection = await Cluster(address, trust).connect(dial)
        try:
            with translate_amqp_errors():
                yield connection
        finally:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.close()
    except NotConnected as error:
        raise ServiceUnreachable(f"{error}. {_REMEDY}") from error
    except (*BROKEN, TimeoutError) as error:
        raise _translated(address, error) from error


def _translated(address: Address, error: BaseException) -> KryonixError:
    if type(error) is TimeoutError:
        return ServiceUnreachable(f"{address.place} did not answer within {ANSWER_S:g} s. {_REMEDY}")
    if is_of_connection(error):
        return ServiceUnreachable(f"{not_connected(address, error)}. {_REMEDY}")
    return KryonixError(f"{address.place} refuses it ({type(error).__name__}: {error}). {_REMEDY}")


async def existing_queues(connection: Connection, names: Names, routes: Routes) -> list[Tally]:
    """Return the existing dead-letter queues of the routes. A passive declaration changes nothing.

    Raises InvalidChoice if there are none.
    """
    tallies = []
    channel = await connection.open_channel()
    for module, action in routes:
        queue = names.dead_letter_queue(module, action)
        try:
            # A busy broker says 0 when it has no answer in time: ask again after a 0.
            found = await _count(channel, queue) or await _count(channel, queue)
            tallies.append(Tally(module, action, queue, found))
        except amqp.ChannelNotFoundEntity:
            channel = await connection.open_channel()
    if not tallies:
        problem = f"{names.tenant_id} has no dead-letter queue for this module and action"
        raise InvalidChoice(f"{problem}. It may have other modules: leave out --module for all of them")
    return tallies


async def _count(channel: AbstractChannel, queue: str) -> int:
    return (await channel.queue_declare(queue, passive=True, timeout=ANSWER_S)).message_count or 0
