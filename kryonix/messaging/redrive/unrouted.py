"""Messages that no queue wanted: an operator looks at them and sends them again. Applications can't read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError

from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable
from kryonix.topology.naming import Names

__all__ = ["Found", "look", "redrive"]

_TIMEOUT_S: Final = 30
_NEEDED: Final = ("amqp_host", "amqp_port", "admin_username", "admin_password")

Route = tuple[str, str]
"""The exchange and the routing key that a message was sent with."""


@dataclass(frozen=True, slots=True)
class Found:
    """The messages that were looked at or sent again, by route, and how many are in the queue in the end."""

    routes: Counter[Route]
    waiting: int


async def look(outputs: Any, names: Names, limit: int) -> Found:
    """Count the oldest messages by route, and leave all of them where they are."""
    async with _queue(outputs, names) as (_, queue):
        routes: Counter[Route] = Counter()
        taken: list[AbstractIncomingMessage] = []
        for _ in range(min(limit, _count(queue))):
            if (message := await queue.get(fail=False, timeout=_TIMEOUT_S)) is None:
                break
            routes[_route(message)] += 1
            taken.append(message)
        for message in taken:
            # Not `reject`: the broker counts that as a failed delivery, and drops a message after 20 of them.
            await message.nack(requeue=True)
        return Found(routes, _count(queue))


async def redrive(outputs: Any, names: Names, limit: int) -> Found:
    """Send the oldest messages again as they were. What still has no queue comes back, and is not sent a second time.

    Each message is taken out once the broker has confirmed the new one: cut off between the two, it is there twice.
    """
    async with _queue(outputs, names) as (channel, queue):
        routes: Counter[Route] = Counter()
        for _ in range(min(limit, _count(queue))):
            if (message := await queue.get(fail=False, timeout=_TIMEOUT_S)) is None:
                break
            exchange = await channel.get_exchange(_route(message)[0], ensure=False)
            try:
                await exchange.publish(_again(message), message.routing_key or "", timeout=_TIMEOUT_S)
            except DeliveryError as error:
                await message.nack(requeue=True)
                where = f"{message.exchange} [{message.routing_key}]"
                raise KryonixError(
                    f"a queue behind {where} is full and took no more; {routes.total()} message(s) were sent again, "
                    "the others are where they were. Consume from that queue, and run again"
                ) from error
            await message.ack()
            routes[_route(message)] += 1
        return Found(routes, await _waiting(channel, names))


def _route(message: AbstractIncomingMessage) -> Route:
    return message.exchange or "", message.routing_key or ""


def _again(message: AbstractIncomingMessage) -> aio_pika.Message:
    """Return the same message to send, without its user: the broker takes only the sender's own name there."""
    return aio_pika.Message(
        message.body,
        headers=message.headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=message.expiration,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )


def _count(queue: AbstractQueue) -> int:
    return queue.declaration_result.message_count or 0


async def _waiting(channel: AbstractChannel, names: Names) -> int:
    return _count(await channel.declare_queue(names.unrouted, passive=True))


@asynccontextmanager
async def _queue(outputs: Any, names: Names) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
    """Open a tenant's unrouted queue as the platform's administrator."""
    if missing := [key for key in _NEEDED if not outputs.get(key)]:
        raise InvalidChoice(f"the stack has no {missing[0]!r} among its outputs. Name the stack of the platform")
    host, port = str(outputs["amqp_host"]), int(outputs["amqp_port"])
    try:
        async with (
            await aio_pika.connect(
                host=host,
                port=port,
                login=outputs["admin_username"],
                password=outputs["admin_password"],
                virtualhost=names.vhost,
                timeout=_TIMEOUT_S,
            ) as connection,
            connection.channel() as channel,
        ):
            yield channel, await channel.declare_queue(names.unrouted, passive=True)
    except ChannelNotFoundEntity as error:
        raise InvalidChoice(f"there is no queue {names.unrouted!r} on the broker at {host}:{port}") from error
    except (AMQPError, OSError, TimeoutError) as error:
        # The library shows a refused vhost as its surprise at the broker's answer, which says nothing to a person.
        refused = "Connection.Close" in str(error)
        reason = "the broker refuses the vhost" if refused else str(error) or type(error).__name__
        remedy = (
            "There is no such tenant (`kryonix tenant list`, `kryonix status`), or it is suspended: resume it first"
            if refused
            else "Check that the broker runs"
        )
        raise ServiceUnreachable(f"{names.vhost} on the broker at {host}:{port}: {reason}. {remedy}") from error
