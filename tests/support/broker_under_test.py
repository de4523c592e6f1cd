"""A tenant on the real broker or on the one in memory, for the shared behaviour suite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kryonix.messaging import MemoryBroker, MessagingClient
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.message import Envelope
from kryonix.messaging.transport import ANSWER_WITHIN_S, Delivery, Transport
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names
from tests.support.amqp import Account, ready

HURRY = 0.05

__all__ = ["World", "memory_world", "rabbitmq_world"]


@dataclass(frozen=True, kw_only=True)
class World:
    """A tenant, its catalog, and two ways in: as an application, and below the SDK."""

    names: Names
    catalog: Catalog
    transport: Transport
    connect: Callable[..., Awaitable[MessagingClient]]
    unrouted: Callable[[], Awaitable[int]]
    """How many messages no queue took, as an operator sees it: the tenant need not be able to read them."""
    second: float = 1.0
    """How long a second of the broker's takes: the one in memory is in a hurry."""

    async def post(self, module: str, action: str, body: bytes, **properties: Any) -> None:
        """Publish bytes as a foreign application would, without the SDK's encoding."""
        key = self.names.routing_key(module, action, "medium")
        envelope = Envelope(self.names.exchange, key, body, properties.pop("message_id", "foreign"), **properties)
        await self.transport.publish(envelope, 30)

    async def take(self, queue: str, count: int, within: float = 60) -> list[Envelope]:
        """The next messages of a queue, taken out of it. Raises TimeoutError where fewer come in so many seconds."""
        arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        subscription = await self.transport.subscribe([queue], max(count, 1), arrived.put_nowait, 30, ANSWER_WITHIN_S)
        taken: list[Envelope] = []
        try:
            async with asyncio.timeout(within):
                while len(taken) < count:
                    delivery = await arrived.get()
                    await delivery.ack()
                    taken.append(delivery.envelope)
        finally:
            await subscription.close()
        return taken

    async def dead_letters(self, module: str, action: str, count: int = 1) -> list[Envelope]:
        return await self.take(self.names.dead_letter_queue(module, action), count)

    async def is_empty(self, queue: str) -> bool:
        """Whether nothing comes out of a queue for a moment."""
        try:
            await self.take(queue, 1, within=0.3 * self.second)
        except TimeoutError:
            return True
        return False


async def memory_world(tenant: str, catalog: Catalog, modules: list[str], plan: str) -> World:
    broker = MemoryBroker(tenant, modules=modules, plan=plan, catalog=catalog, delay=HURRY)
    transport = (await broker.connect())._transport

    async def unrouted() -> int:
        return len(broker.unrouted)

    return World(
        names=broker.names,
        catalog=catalog,
        transport=transport,
        connect=broker.connect,
        unrouted=unrouted,
        second=HURRY,
    )


async def rabbitmq_world(amqp_uri: str, management_url: str, catalog: Catalog, operator: Account) -> World:
    address = parse_uri(amqp_uri, management_url)
    transport = AmqpTransport(address, f"{address.tenant_id}/suite", None, 60)
    await transport.open(30)

    async def connect(**options: Any) -> MessagingClient:
        options = {"application": "test", "catalog": catalog, **options}
        return await MessagingClient.connect(amqp_uri, management_url=management_url, **options)

    names = Names(address.tenant_id)

    async def unrouted() -> int:
        async with operator.at(names.vhost).channel() as channel:
            return await ready(channel, names.unrouted)

    return World(names=names, catalog=catalog, transport=transport, connect=connect, unrouted=unrouted)
