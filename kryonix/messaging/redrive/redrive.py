"""Putting dead letters back where they came from: the connection, the queues, and what ends a run."""

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
from kryonix.messaging.amqp.failures import BROKEN, is_of_connection, not_connected, told_apart
from kryonix.messaging.amqp.wire import TakingCare
from kryonix.messaging.configuration import Address
from kryonix.messaging.redrive.mover import PATIENCE, Mover, Tally, open_channel
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["Tally", "redrive"]

Route = tuple[str, str]


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
    where the tenant has none of the queues, KryonixError where the broker refuses something.
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
        mover = Mover(connection, names, catalog, limit, report)
        await mover.open()
        for tally in tallies:
            await mover.empty(tally)
    return tallies


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[AbstractConnection]:
    name = f"{address.tenant_id}/kryonix redrive"
    try:
        async with asyncio.timeout(PATIENCE):
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
        raise _explained(address, error) from error


def _explained(address: Address, error: BaseException) -> KryonixError:
    """What has ended the run. Only a connection that is gone is said to be."""
    go_on = "Nothing is lost; run the same command again to go on"
    if type(error) is TimeoutError:
        return ServiceUnreachable(f"{address.place} did not answer within {PATIENCE:g} s. {go_on}")
    if is_of_connection(error):
        return ServiceUnreachable(f"{not_connected(address.place, address.username, error)}. {go_on}")
    return KryonixError(f"{address.place} refuses it ({type(error).__name__}: {error}). {go_on}")


async def _found(connection: AbstractConnection, names: Names, routes: Sequence[Route]) -> AsyncIterator[Tally]:
    """The dead-letter queues of the routes that are there, asked by a passive declaration, which changes nothing."""
    asking = await open_channel(connection)
    for module, action in routes:
        queue = names.dead_letter_queue(module, action)
        try:
            # A busy broker says 0 when it has no answer in time: a 0 is asked for twice.
            found = await _count(asking, queue) or await _count(asking, queue)
        except amqp.ChannelNotFoundEntity:
            asking = await open_channel(connection)
            continue
        yield Tally(module, action, queue, found)


async def _count(asking: AbstractChannel, queue: str) -> int:
    return (await asking.queue_declare(queue, passive=True, timeout=PATIENCE)).message_count or 0
