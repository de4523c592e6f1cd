"""Counts of messages that a deletion may rely on. Those of the management API are up to 5 s old."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.addresses import speaks_amqps, split_address
from kryonix.topology.objects import QueueState

if TYPE_CHECKING:
    from pamqp.commands import Queue

CONNECT_S: Final = 3
"""Seconds to wait for a connection."""

_COUNTS_AGE_S: Final = 8  # a quorum queue reports its counts every 5 s, and later on a busy broker

Answers = dict[tuple[str, str], "Queue.DeclareOk"]
"""Answers to passive declarations, by vhost and queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """A broker's addresses, as seen from an administrator's machine, and the user's credentials.

    A broker of several nodes has several addresses; the first ones are those of the first node.
    """

    management_url: str
    username: str
    password: str = field(repr=False)
    amqp_host: str
    amqp_port: int
    management_urls: tuple[str, ...] = ()
    """One per node, where there are several."""
    amqp_addresses: tuple[str, ...] = ()
    """`host:port`, one per node, where there are several."""
    amqp_tls: bool = False
    ca_certificate: str = ""
    """The CAs to trust (PEM); empty: the system's."""

    @property
    def amqp(self) -> list[tuple[str, int]]:
        """Return host and port of every node, the first node's first."""
        further = (split_address(address) for address in self.amqp_addresses)
        return list(dict.fromkeys([(self.amqp_host, self.amqp_port), *further]))

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Self:
        """Return the access to a platform's broker, from the outputs of its stack."""
        return cls(
            management_url=str(outputs["management_url"]).rstrip("/"),
            username=str(outputs["admin_username"]),
            password=str(outputs["admin_password"]),
            amqp_host=str(outputs["amqp_host"]),
            amqp_port=int(outputs["amqp_port"]),
            management_urls=tuple(outputs.get("management_urls") or ()),
            amqp_addresses=tuple(outputs.get("amqp_addresses") or ()),
            amqp_tls=speaks_amqps(outputs),
            ca_certificate=str(outputs.get("ca_certificate") or ""),
        )


class CountingBroker(Broker):
    """A broker whose queues are counted over AMQP too."""

    def __init__(self, access: BrokerAccess) -> None:
        super().__init__(
            access.management_url,
            access.username,
            access.password,
            connect_s=CONNECT_S,
            further_urls=access.management_urls,
            ca_certificate=access.ca_certificate,
        )
        self._access = access

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        """Return the queues with current message counts.

        Ready messages are counted over AMQP. For unacknowledged messages, and for vhosts without free connections, wait
        until the API's counts are new.
        """
        if not queues:
            return []
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

    def _answers(self, queues: list[QueueState]) -> Answers:
        from kryonix.rabbitmq.amqp import declared  # imports an AMQP client, and few runs remove anything

        try:
            return declared(self._access, queues)
        except OSError as error:
            problem = f"does not answer ({error})"
            raise BrokerUnavailable(f"the broker at {self.url} {problem}. Start it and run again", problem) from error


def _with_ready(queue: QueueState, answers: Answers) -> QueueState:
    answer = answers.get((queue.vhost, queue.name))
    return replace(queue, messages=max(queue.messages, (answer.message_count or 0) if answer else 0))


def _unsure(queue: QueueState, answers: Answers) -> bool:
    """Return True if new counts are needed: no answer, consumers with possible messages, or a possibly old count.

    A queue that is down may have just started.
    """
    answer = answers.get((queue.vhost, queue.name))
    if answer is None or queue.down:
        return True
    return not answer.message_count and bool(answer.consumer_count or queue.messages)
