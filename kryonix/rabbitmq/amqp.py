"""A broker over AMQP: connections of an administrator, and queues' counts by passive declarations."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ProbableAuthenticationError
from pamqp.commands import Queue

from kryonix.certificates.trust import context, show, why
from kryonix.rabbitmq.counts import CONNECT_S, Answers, BrokerAccess
from kryonix.topology.addresses import host_port
from kryonix.topology.objects import QueueState

_RELIABLE_S: Final = 0.2  # a later zero may be the broker's, for a queue that did not respond


async def connect(access: BrokerAccess, vhost: str, certificate: str = "", **options: Any) -> aio_pika.Connection:
    """Connect to a vhost on the first node that answers, whose certificate is verified.

    `certificate` (PEM, with its key) logs in instead of the password. `options` are aio-pika's: at least `timeout`, in
    seconds, for each node. Raises its errors and OSError.
    """
    failed: dict[str, BaseException] = {}
    trust = context(access.ca_certificate) if access.amqp_tls else None
    if trust and certificate:
        show(trust, certificate)
        options["auth"] = "external"
    for host, port in access.amqp:
        try:
            return await aio_pika.connect(
                host=host,
                port=port,
                login=access.username,
                password=access.password,
                virtualhost=vhost,
                ssl=access.amqp_tls,
                ssl_context=trust,
                connection_class=aio_pika.Connection,
                **options,
            )
        except ProbableAuthenticationError:  # an OSError, too; every node says the same
            raise
        except (OSError, TimeoutError) as error:
            failed[host_port(host, port)] = error
    reasons = {place: why(error, place) or str(error) or type(error).__name__ for place, error in failed.items()}
    if len(reasons) > 1:
        raise ConnectionError("; ".join(f"{place}: {reason}" for place, reason in reasons.items()))
    ((place, failure),) = failed.items()
    raise ConnectionError(reasons[place]) if why(failure, place) else failure


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
        # The next vhost begins with the node that answers: others may cost seconds.
        access = replace(access, amqp_host=connection.url.host or "", amqp_port=connection.url.port or 0)
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
