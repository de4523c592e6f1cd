"""A tenant's unroutable messages: operators count and resend them; applications can't read them."""

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

_TIMEOUT_S: Final = 30
_NEEDED: Final = ("amqp_host", "amqp_port", "admin_username", "admin_password")

Route = tuple[str, str]
"""The exchange and the routing key of a message."""


@dataclass(frozen=True, slots=True)
class UnroutedMessages:
    """Messages counted or resent by route, and the messages left in the queue."""

    routes: Counter[Route]
    waiting: int


async def count_routes(outputs: Any, names: Names, limit: int) -> UnroutedMessages:
    """Count the oldest messages by route, and leave them in the queue."""
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
        return UnroutedMessages(routes, _count(queue))


async def resend(outputs: Any, names: Names, limit: int) -> UnroutedMessages:
    """Resend the oldest messages unchanged. A message that still reaches no queue returns, and is not sent twice.

    A message is acknowledged after the broker confirms its copy: an interruption between the two duplicates it.
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
                    f"a queue bound to {where} is full; {routes.total()} message(s) were sent again. The others were "
                    "left: consume from that queue, then run it again"
                ) from error
            await message.ack()
            routes[_route(message)] += 1
        return UnroutedMessages(routes, await _waiting(channel, names))


def _route(message: AbstractIncomingMessage) -> Route:
    return message.exchange or "", message.routing_key or ""


def _again(message: AbstractIncomingMessage) -> aio_pika.Message:
    """Return a copy without the user ID: the broker accepts only the sender's own."""
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
        raise InvalidChoice(f"the stack has no {missing[0]!r} in its outputs. Give the platform's stack with --stack")
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
        raise InvalidChoice(f"queue {names.unrouted!r} does not exist on the broker at {host}:{port}") from error
    except (AMQPError, OSError, TimeoutError) as error:
        # aio-pika reports a refused vhost only as an unexpected Connection.Close.
        refused = "Connection.Close" in str(error)
        reason = "the broker refuses the vhost" if refused else str(error) or type(error).__name__
        remedy = (
            "The tenant does not exist (`kryonix tenant list`, `kryonix status`), or it is suspended: resume it first"
            if refused
            else "Check that the broker runs"
        )
        raise ServiceUnreachable(f"{names.vhost} on the broker at {host}:{port}: {reason}. {remedy}") from error
