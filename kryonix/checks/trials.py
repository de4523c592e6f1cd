"""Trials on a running broker: messages through exchanges, and credentials at another tenant's vhost.

Every object of a trial is an exclusive queue of its own connection: the broker deletes it when the connection ends,
also when the process is killed. Its name and its routing key are unique, so no message reaches a tenant's queue.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import aio_pika
from aio_pika.exceptions import AMQPError, DeliveryError, ProbableAuthenticationError
from urllib3 import Timeout

from kryonix.checks.declared import Declared
from kryonix.checks.findings import Finding
from kryonix.rabbitmq.amqp import connect
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, Client
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import stats_user

_CONNECT_S: Final = 5
_CONNECTION: Final = {"timeout": _CONNECT_S, "client_properties": {"connection_name": "kryonix check"}}
_TRIAL_S: Final = 20
_ARRIVAL_S: Final = 5
_PREFIX: Final = "kryonix-check."
_CLASSIC: Final[dict[str, Any]] = {"x-queue-type": "classic"}
_RETRY: Final = "Look at the broker's log: `docker logs` of its container. Then check again"


class _Lost(Exception):
    """A message did not arrive."""


async def try_messages(access: BrokerAccess, topology: Topology, exchanges: Collection[str]) -> list[Finding]:
    """Send a message through each of these exchanges, and one through each dead-letter exchange as a dead letter."""
    tenant = topology.tenant.id
    skipped = [each.name for each in topology.exchanges if each.name not in exchanges or each.type == "fanout"]
    sent, dead = (Finding(check=name, outcome="pass", tenant=tenant) for name in ("messages", "dead letters"))
    if topology.tenant.status == "suspended":
        return [replace(each, outcome="not tried", why="the tenant is suspended") for each in (sent, dead)]
    sent = replace(sent, why=f"not tried through {', '.join(skipped)}: one could reach a consumer" if skipped else "")
    tried = sent
    try:
        async with asyncio.timeout(_TRIAL_S), await connect(access, topology.vhost, **_CONNECTION) as connection:
            trial = await _Trial.begin(connection)
            for exchange in topology.exchanges:
                if exchange.name not in skipped:
                    await trial.through(exchange.name)
            tried = dead
            for module in topology.tenant.modules:
                if (name := topology.tenant.names.dead_letter_exchange(module)) in exchanges:
                    await trial.dead_letter(name)
    except (_Lost, DeliveryError) as error:
        bad = replace(tried, outcome="fail", why=_reason(error), remedy=_RETRY)
    except (AMQPError, OSError, TimeoutError) as error:
        why = f"the broker does not carry it out, as at a limit of connections or queues ({_reason(error)})"
        bad = replace(tried, outcome="not tried", why=why, remedy="Check again when the tenant is less busy")
    else:
        return [sent, dead]
    return [bad, replace(dead, outcome="not tried", why="the messages did not pass")] if tried is sent else [sent, bad]


@dataclass(frozen=True, slots=True)
class _Trial:
    """One connection's messages."""

    channel: aio_pika.abc.AbstractChannel
    queue: aio_pika.abc.AbstractQueue

    @classmethod
    async def begin(cls, connection: aio_pika.abc.AbstractConnection) -> _Trial:
        channel = await connection.channel(on_return_raises=True)
        name = f"{_PREFIX}{uuid.uuid4().hex}"
        return cls(channel, await channel.declare_queue(name, exclusive=True, arguments=_CLASSIC))

    async def through(self, exchange: str) -> None:
        """Send a message through an exchange to this trial's queue."""
        await self.queue.bind(exchange, self.queue.name)
        await self._send(await self.channel.get_exchange(exchange, ensure=False), self.queue.name)
        await self._arrived(f"a message through the exchange {exchange}")

    async def dead_letter(self, exchange: str) -> None:
        """Reject a message in a queue that dead-letters to an exchange."""
        await self.queue.bind(exchange, self.queue.name)
        target = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": self.queue.name}
        name = f"{_PREFIX}{uuid.uuid4().hex}"
        source = await self.channel.declare_queue(name, exclusive=True, arguments=_CLASSIC | target)
        await self._send(self.channel.default_exchange, source.name)
        message = await source.get(timeout=_ARRIVAL_S)
        if message is None:  # never: without a message, `get` raises
            return
        await message.reject(requeue=False)
        await self._arrived(f"a dead letter through the exchange {exchange}")
        await source.delete()

    async def _send(self, exchange: aio_pika.abc.AbstractExchange, key: str) -> None:
        await exchange.publish(aio_pika.Message(b"kryonix check"), key, timeout=_ARRIVAL_S)

    async def _arrived(self, what: str) -> None:
        for _ in range(_ARRIVAL_S * 50):
            if await self.queue.get(no_ack=True, fail=False) is not None:
                return
            await asyncio.sleep(0.02)
        raise _Lost(f"{what} did not arrive within {_ARRIVAL_S} s")


async def try_isolation(
    access: BrokerAccess, tenant: Declared, other: Declared, remedies: Mapping[str, str]
) -> list[Finding]:
    """Try a tenant's credentials at another tenant's vhost, over AMQP and over the management API.

    `remedies` take a user's permissions there away; a user that gets in without any has other tags than declared.
    """
    vhost, result = other.tenant.names.vhost, Finding(check="isolation", outcome="pass", tenant=tenant.tenant.id)
    own = replace(access, username=tenant.username, password=tenant.password or "")
    found: list[Finding] = []
    try:
        for user in await asyncio.to_thread(lambda: list(_opened_by_http(own, vhost))):
            why = f"the credentials of {user} open the vhost {vhost} over the management API"
            found.append(replace(result, outcome="fail", why=why, remedy=remedies.get(user, tenant.mend)))
        async with await connect(own, vhost, **_CONNECTION):
            why = f"the credentials of {tenant.username} open the vhost {vhost} over AMQP"
            found.append(replace(result, outcome="fail", why=why, remedy=remedies.get(tenant.username, tenant.mend)))
    except BrokerUnavailable as error:
        found.append(replace(result, outcome="unreachable", why=str(error)))
    except ProbableAuthenticationError:  # a connection error too, as the broker closes it
        pass
    except (OSError, TimeoutError) as error:
        found.append(replace(result, outcome="unreachable", why=f"no answer over AMQP ({_reason(error)})"))
    except AMQPError:
        pass
    return found or [result]


def _opened_by_http(access: BrokerAccess, vhost: str) -> Iterator[str]:
    for user in (access.username, stats_user(access.username)):
        with Client(access.management_url, user, access.password, Timeout(connect=_CONNECT_S, read=30)) as client:
            try:
                client.get("queues", vhost, columns="name")
            except BrokerFailed as error:
                if error.status not in (401, 403, 404):  # 404: it does not see the vhost
                    raise
            else:
                yield user


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
