"""A broker over AMQP: connections of an administrator, and queues' counts by passive declarations."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from pamqp.commands import Queue

from kryonix.rabbitmq.counts import CONNECT_S, Answers, BrokerAccess
from kryonix.topology.objects import QueueState

_RELIABLE_S: Final = 0.2  # a later zero may be the broker's, for a queue that did not respond


async def connect(access: BrokerAccess, vhost: str, **options: Any) -> AbstractConnection:
    """Connect to a vhost. `options` are aio-pika's: at least `timeout`, in seconds. Raises its errors and OSError."""
    connection: AbstractConnection = await aio_pika.connect(
        host=access.amqp_host,
        port=access.amqp_port,
        login=access.username,
        password=access.password,
        virtualhost=vhost,
        **options,
    )
    return connection


def declared(access: BrokerAccess, queues: list[QueueState]) -> Answers:
    """Return each queue's answer. Skip vhosts that accept no connection: suspended, or at their limit.

    Raises OSError, also for the broker's AMQP errors.
    """
    try:
        return asyncio.run(_ask(access, queues))
    except AMQPError as error:
        raise ConnectionError(str(error)) from error


async def _ask(access: BrokerAccess, queues: list[QueueState]) -> Answers:
    answers: Answers = {}
    for vhost in sorted({queue.vhost for queue in queues}):
        try:
            connection = await connect(access, vhost, timeout=CONNECT_S)
        except (AMQPError, OSError, TimeoutError):
            continue
        async with connection:
            for queue in queues:
                if queue.vhost == vhost and (answer := await _declared(connection, queue.name)) is not None:
                    answers[vhost, queue.name] = answer
    return answers


async def _declared(connection: AbstractConnection, name: str) -> Queue.DeclareOk | None:
    """Return a queue's counts from a passive declaration, which closes its channel if the queue is gone.

    None if the counts are unreliable: the broker answers 0 for a queue that does not respond within 250 ms.
    """
    async with connection.channel() as channel:
        began = time.monotonic()
        try:
            queue = await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            return Queue.DeclareOk(name, 0, 0)
    late = time.monotonic() - began > _RELIABLE_S
    return None if late and not queue.declaration_result.message_count else queue.declaration_result
