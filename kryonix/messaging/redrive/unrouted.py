"""A tenant's unroutable messages: operators count and resend them; applications can't read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError

from kryonix.errors import InvalidChoice, KryonixError
from kryonix.messaging.amqp.properties import copied
from kryonix.messaging.configuration import Address, address_of
from kryonix.messaging.redrive import ANSWER_S, Reading, connected
from kryonix.messaging.redrive.dead_letters import Origin
from kryonix.topology.addresses import host_port, speaks_amqps
from kryonix.topology.naming import Names

_NEEDED: Final = ("amqp_host", "amqp_port", "admin_username", "admin_password")


@dataclass(frozen=True, slots=True)
class UnroutedMessages:
    """Messages counted or resent by route, and the messages left in the queue."""

    routes: Counter[Origin]
    waiting: int


async def count_routes(outputs: Any, names: Names, limit: int) -> UnroutedMessages:
    """Count the oldest messages by route, and leave them in the queue."""
    async with _opened(outputs, names) as channel, Reading(channel, names.unrouted) as queue:
        routes = Counter([_route(message) async for message in _oldest(queue, limit)])
        return UnroutedMessages(routes, await queue.waiting())


async def resend(outputs: Any, names: Names, limit: int) -> UnroutedMessages:
    """Resend the oldest messages unchanged. A message that still reaches no queue returns, and is not sent twice.

    A message is acknowledged after the broker confirms its copy: an interruption between the two duplicates it.
    """
    async with _opened(outputs, names) as channel:
        routes = Counter[Origin]()
        async with Reading(channel, names.unrouted) as queue:
            async for message in _oldest(queue, limit):
                exchange, key = _route(message)
                try:
                    await channel.basic_publish(
                        bytes(message.body),
                        exchange=exchange,
                        routing_key=key,
                        properties=copied(message.header.properties),
                        mandatory=True,
                        timeout=ANSWER_S,
                    )
                except DeliveryError as error:
                    full = f"a queue bound to {exchange} [{key}] is full"
                    problem = f"{exchange} [{key}] leads to no queue" if isinstance(error, PublishError) else full
                    raise KryonixError(
                        f"{problem}; {routes.total()} message(s) were sent again. The others were left: "
                        "consume from that queue, then run it again"
                    ) from error
                await queue.remove(message)
                routes[Origin(exchange, key)] += 1
            return UnroutedMessages(routes, await queue.waiting())


async def _oldest(queue: Reading, limit: int) -> AsyncIterator[DeliveredMessage]:
    """Read at most the messages that wait at the start: a resent one may come back."""
    while limit > 0 and (message := await queue.next()) is not None:
        limit = min(limit - 1, queue.behind)
        yield message


def _route(message: DeliveredMessage) -> Origin:
    return Origin(message.exchange or "", message.routing_key or "")


@asynccontextmanager
async def _opened(outputs: Any, names: Names) -> AsyncIterator[AbstractChannel]:
    """Open a channel of a tenant's vhost as the platform's administrator."""
    if missing := [key for key in _NEEDED if not outputs.get(key)]:
        raise InvalidChoice(f"the stack has no {missing[0]!r} in its outputs. Give the platform's stack with --stack")
    host, port, username, password = (str(outputs[key]) for key in _NEEDED)
    one = Address("amqps" if speaks_amqps(outputs) else "amqp", host, int(port), username, password, names.tenant_id)
    address = address_of(one.uri(), outputs)
    try:
        async with connected(address, "kryonix unrouted") as connection:
            channel = await connection.open_channel(confirmed=True)
            try:
                yield channel
            finally:  # before the connection: messages given back keep their order
                await channel.close()
    except KryonixError as error:
        if isinstance(error.__cause__, ChannelNotFoundEntity):
            raise InvalidChoice(
                f"queue {names.unrouted!r} does not exist on the broker at {host_port(host, port)}"
            ) from error
        raise
