"""Counts of messages that a deletion may rely on. Those of the management API are up to 5 s old."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Final

import aio_pika
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from pamqp.commands import Queue

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.objects import QueueState

_CONNECT_S: Final = 3
_RELIABLE_S: Final = 0.2  # a later zero may be the broker's, for a queue that did not respond
_COUNTS_AGE_S: Final = 8  # a quorum queue reports its counts every 5 s, and later on a busy broker

_Answers = dict[tuple[str, str], Queue.DeclareOk]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """A broker's addresses, as seen from an administrator's machine, and the user's credentials."""

    management_url: str
    username: str
    password: str = field(repr=False)
    amqp_host: str
    amqp_port: int


class CountingBroker(Broker):
    """A broker whose queues are counted over AMQP too."""

    def __init__(self, access: BrokerAccess) -> None:
        super().__init__(access.management_url, access.username, access.password, connect_s=_CONNECT_S)
        self._access = access

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        """Return the queues with current message counts.

        Ready messages are counted over AMQP. For unacknowledged messages, and for vhosts without free connections, wait
        until the API's counts are new.
        """
        answers = self._answers(queues)
        found = [_with_ready(queue, answers) for queue in queues]
        unsure = {queue.vhost for queue in queues if _unsure(queue, answers)}
        if not unsure:
            return found
        time.sleep(_COUNTS_AGE_S)
        renewed = {(q.vhost, q.name): q for vhost in sorted(unsure) for q in self.queues(vhost)}
        return [renewed.get((queue.vhost, queue.name), queue) for queue in found]

    def settled(self, queues: list[QueueState]) -> list[QueueState]:
        """Return the remaining queues with all their messages: ready, unacknowledged and delayed.

        A queue reports the last two every 5 s only. Call this once no new messages can reach the queues: it waits until
        every report is newer than the call, and takes the larger count.
        """
        if not queues:
            return []
        time.sleep(_COUNTS_AGE_S)
        answers = self._answers(queues)
        renewed = {(q.vhost, q.name): q for vhost in {q.vhost for q in queues} for q in self.queues(vhost)}
        found = [renewed[q.vhost, q.name] for q in queues if (q.vhost, q.name) in renewed]
        return [_with_ready(queue, answers) for queue in found]

    def _answers(self, queues: list[QueueState]) -> _Answers:
        try:
            return asyncio.run(self._ask(queues))
        except (OSError, AMQPError) as error:
            problem = f"does not answer ({error})"
            raise BrokerUnavailable(f"the broker at {self.url} {problem}. Start it and run again", problem) from error

    async def _ask(self, queues: list[QueueState]) -> _Answers:
        """Return each queue's answer. Skip vhosts that accept no connection: suspended, or at their limit."""
        answers: _Answers = {}
        for vhost in sorted({queue.vhost for queue in queues}):
            try:
                connection = await aio_pika.connect(
                    host=self._access.amqp_host,
                    port=self._access.amqp_port,
                    login=self._access.username,
                    password=self._access.password,
                    virtualhost=vhost,
                    timeout=_CONNECT_S,
                )
            except (AMQPError, OSError, TimeoutError):
                continue
            async with connection:
                for queue in queues:
                    if queue.vhost == vhost and (answer := await _declared(connection, queue.name)) is not None:
                        answers[vhost, queue.name] = answer
        return answers


def _with_ready(queue: QueueState, answers: _Answers) -> QueueState:
    answer = answers.get((queue.vhost, queue.name))
    return replace(queue, messages=max(queue.messages, (answer.message_count or 0) if answer else 0))


def _unsure(queue: QueueState, answers: _Answers) -> bool:
    """Return True if new counts are needed: no answer, consumers with possible messages, or a possibly old count."""
    answer = answers.get((queue.vhost, queue.name))
    if answer is None:
        return True
    return not answer.message_count and bool(answer.consumer_count or queue.messages)


async def _declared(connection: aio_pika.abc.AbstractConnection, name: str) -> Queue.DeclareOk | None:
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
