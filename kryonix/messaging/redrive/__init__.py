"""Put dead letters back where they came from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel

from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable
from kryonix.messaging.amqp.failures import BROKEN, is_of_connection, not_connected, translate_amqp_errors
from kryonix.messaging.amqp.wire import TolerantConnection
from kryonix.messaging.configuration import Address
from kryonix.messaging.redrive.mover import ANSWER_S, Mover, Tally, open_channel
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["Tally", "redrive"]


async def redrive(
    address: Address,
    catalog: Catalog,
    routes: Sequence[tuple[str, str]],
    limit: int | None,
    dry_run: bool,
    report: Callable[[Tally], None],
) -> list[Tally]:
    """Move the dead letters of the routes (module, action), at most `limit`, and `report` each queue's progress.

    Killed at any moment it loses nothing: a message confirmed and not yet acknowledged exists twice, with the same id.
    Run it again to continue. Raises ServiceUnreachable if the broker goes away, InvalidChoice if the tenant has none
    of the queues, KryonixError if the broker refuses something.
    """
    names = Names(address.tenant_id)
    # A message may be dead because of its undecodable properties; it must not end the redrive.
    async with connected(address, f"{address.tenant_id}/kryonix redrive", TolerantConnection) as connection:
        tallies = await existing_queues(connection, names, routes)
        for tally in tallies:
            report(tally)
        if dry_run:
            return tallies
        reading, publishing = await open_channel(connection), await open_channel(connection, confirmed=True)
        mover = Mover(connection, reading, publishing, names, catalog, limit, report)
        for tally in tallies:
            await mover.empty(tally)
    return tallies


@asynccontextmanager
async def connected(
    address: Address, name: str, connection_class: type[aio_pika.Connection] = aio_pika.Connection
) -> AsyncIterator[AbstractConnection]:
    """Connect once. Raises KryonixError, or ServiceUnreachable if there is no connection, or it ends."""
    try:
        async with asyncio.timeout(ANSWER_S):
            connection = await aio_pika.connect(
                address.uri(), client_properties={"connection_name": name}, connection_class=connection_class
            )
        try:
            with translate_amqp_errors():
                yield connection
        finally:
            with contextlib.suppress(*BROKEN, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.close()
    except (*BROKEN, TimeoutError) as error:
        raise _translated(address, error) from error


def _translated(address: Address, error: BaseException) -> KryonixError:
    remedy = "Nothing is lost; run the same command again to continue"
    if type(error) is TimeoutError:
        return ServiceUnreachable(f"{address.place} did not answer within {ANSWER_S:g} s. {remedy}")
    if is_of_connection(error):
        return ServiceUnreachable(f"{not_connected(address.place, address.username, error)}. {remedy}")
    return KryonixError(f"{address.place} refuses it ({type(error).__name__}: {error}). {remedy}")


async def existing_queues(
    connection: AbstractConnection, names: Names, routes: Sequence[tuple[str, str]]
) -> list[Tally]:
    """Return the existing dead-letter queues of the routes. A passive declaration changes nothing.

    Raises InvalidChoice if there are none.
    """
    tallies = []
    channel = await open_channel(connection)
    for module, action in routes:
        queue = names.dead_letter_queue(module, action)
        try:
            # A busy broker says 0 when it has no answer in time: ask again after a 0.
            found = await count(channel, queue) or await count(channel, queue)
            tallies.append(Tally(module, action, queue, found))
        except amqp.ChannelNotFoundEntity:
            channel = await open_channel(connection)
    if not tallies:
        problem = f"{names.tenant_id} has no dead-letter queue for this module and action"
        raise InvalidChoice(f"{problem}. It may have other modules: leave out --module for all of them")
    return tallies


async def count(channel: AbstractChannel, queue: str) -> int:
    return (await channel.queue_declare(queue, passive=True, timeout=ANSWER_S)).message_count or 0
