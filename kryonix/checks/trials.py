"""Trials on a running broker: messages through exchanges, and credentials at another tenant's vhost.

Every object of a trial is an exclusive queue of its own connection: the broker deletes it when the connection ends,
also when the process is killed. The one quorum queue, for the retry, expires. Their names and routing keys are unique,
so no message reaches a tenant's queue.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import aio_pika
from aio_pika.exceptions import AMQPError, DeliveryError, ProbableAuthenticationError
from urllib3 import Timeout

from kryonix.checks.declared import Declared
from kryonix.checks.findings import MESSAGE_CHECKS, Finding, Outcome
from kryonix.rabbitmq.amqp import connect
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, Client
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.catalog import RetrySettings
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import TRIAL_PREFIX, stats_user

_CONNECT_S: Final = 5
_CONNECTION: Final[dict[str, Any]] = {"timeout": _CONNECT_S, "client_properties": {"connection_name": "kryonix check"}}
_TRIAL_S: Final = 30
_ARRIVAL_S: Final = 5
_LONGEST_DELAY_S: Final = 10
_EXPIRES_MS: Final = 60_000
_CLASSIC: Final[dict[str, Any]] = {"x-queue-type": "classic"}
_RETRY: Final = "Look at the broker's log: `docker logs` of its container. Then check again"


class _Lost(Exception):
    """A message did not arrive."""


class _Undelayed(Exception):
    """A failed message came again at once."""


@dataclass(frozen=True, slots=True)
class MessageTrials:
    """One tenant's messages: through its exchanges, as dead letters, and once again after a failure.

    `exchanges` are those as declared; only these route a message of ours to nobody else's queue. `mend` repairs the
    tenant.
    """

    topology: Topology
    exchanges: Collection[str]
    retry: RetrySettings
    mend: str

    async def run(self, access: BrokerAccess) -> list[Finding]:
        """Return a finding per trial. They go one after the other: after a failure the rest is not tried."""
        tenant = self.topology.tenant
        if tenant.status == "suspended":
            return [self._finding(name, "not tried", "the tenant is suspended") for name in MESSAGE_CHECKS]
        done: list[Finding] = []
        bad: Finding | None = None
        try:
            async with (
                asyncio.timeout(_TRIAL_S),
                await connect(access, self.topology.vhost, **_CONNECTION) as connection,
            ):
                trial = await _Trial.begin(connection)
                for run in (self._messages, self._dead_letters, self._retried):
                    done += [await run(trial)]
        except (_Lost, DeliveryError) as error:
            bad = self._finding(MESSAGE_CHECKS[len(done)], "fail", _reason(error), _RETRY)
        except _Undelayed as error:
            bad = self._finding("retry", "fail", str(error), self.mend)
        except (AMQPError, OSError, TimeoutError) as error:
            if len(done) < len(MESSAGE_CHECKS):
                why = f"the broker does not carry it out, as at a limit of connections or queues ({_reason(error)})"
                remedy = "Check again when the tenant is less busy"
                bad = self._finding(MESSAGE_CHECKS[len(done)], "not tried", why, remedy)
        found = [*done, *([bad] if bad else [])]
        rest = MESSAGE_CHECKS[len(found) :]
        return found + [self._finding(name, "not tried", "the messages did not pass") for name in rest]

    def _finding(self, check: str, outcome: Outcome, why: str = "", remedy: str = "") -> Finding:
        return Finding(check=check, outcome=outcome, tenant=self.topology.tenant.id, why=why, remedy=remedy)

    async def _messages(self, trial: _Trial) -> Finding:
        skipped = []
        for exchange in self.topology.exchanges:
            if exchange.name not in self.exchanges or exchange.type == "fanout":
                skipped.append(exchange.name)
            else:
                await trial.through(exchange.name)
        why = f"not tried through {', '.join(skipped)}: one could reach a consumer" if skipped else ""
        return self._finding("messages", "pass", why)

    async def _dead_letters(self, trial: _Trial) -> Finding:
        for _, exchange in self._dead_letter_exchanges():
            await trial.dead_letter(exchange)
        return self._finding("dead letters", "pass")

    async def _retried(self, trial: _Trial) -> Finding:
        """Fail one message in a queue with the policies of the first module."""
        delay = self.retry.first_delay / 1000
        module, exchange = next(iter(self._dead_letter_exchanges()), ("", ""))
        why = ""
        if self.retry.strategy != "native":
            why = "a message in a retry queue would reach a consumer"
        elif not module:
            why = "no dead-letter exchange is as declared"
        elif delay > _LONGEST_DELAY_S:
            why = f"the first delay of {delay:g} s is too long to wait for"
        if why:
            return self._finding("retry", "not tried", why)
        await trial.retry(
            self.topology.tenant.names.queue(module, f"{TRIAL_PREFIX}{uuid.uuid4().hex}"), exchange, delay
        )
        return self._finding("retry", "pass")

    def _dead_letter_exchanges(self) -> list[tuple[str, str]]:
        """Return the modules whose dead-letter exchange is as declared, and its name."""
        names = self.topology.tenant.names
        all_ = [(module, names.dead_letter_exchange(module)) for module in self.topology.tenant.modules]
        return [(module, name) for module, name in all_ if name in self.exchanges]


@dataclass(frozen=True, slots=True)
class _Trial:
    """One connection's messages."""

    channel: aio_pika.abc.AbstractChannel
    queue: aio_pika.abc.AbstractQueue

    @classmethod
    async def begin(cls, connection: aio_pika.abc.AbstractConnection) -> _Trial:
        channel = await connection.channel(on_return_raises=True)
        name = f"{TRIAL_PREFIX}{uuid.uuid4().hex}"
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
        name = f"{TRIAL_PREFIX}{uuid.uuid4().hex}"
        source = await self.channel.declare_queue(name, exclusive=True, arguments=_CLASSIC | target)
        await self._send(self.channel.default_exchange, source.name)
        message = await source.get(timeout=_ARRIVAL_S)
        if message is None:  # never: without a message, `get` raises
            return
        await message.reject(requeue=False)
        await self._arrived(f"a dead letter through the exchange {exchange}")
        await source.delete()

    async def retry(self, name: str, exchange: str, delay_s: float) -> None:
        """Fail a message once in a quorum queue of this name, get it again after the delay, and dead-letter it.

        A quorum queue can't be exclusive: it deletes itself, should this process be killed.
        """
        await self.queue.bind(exchange, self.queue.name)
        target = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": self.queue.name}
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-expires": _EXPIRES_MS, **target}
        source = await self.channel.declare_queue(name, durable=True, arguments=arguments)
        try:
            await self._send(self.channel.default_exchange, source.name)
            message = await self._got(source, "a message for the retry", _ARRIVAL_S)
            failed = time.monotonic()
            await message.reject(requeue=True)
            message = await self._got(source, "a failed message", delay_s + _ARRIVAL_S)
            if (waited := time.monotonic() - failed) < delay_s / 2:
                raise _Undelayed(f"a failed message came again after {waited:.1f} s instead of {delay_s:g} s")
            await message.reject(requeue=False)
            await self._arrived("the dead letter of a failed message")
        finally:
            await source.delete(if_unused=False, if_empty=False)

    async def _got(
        self, source: aio_pika.abc.AbstractQueue, what: str, within_s: float
    ) -> aio_pika.abc.AbstractIncomingMessage:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if (message := await source.get(fail=False)) is not None:
                return message
            await asyncio.sleep(0.05)
        raise _Lost(f"{what} did not come within {within_s:g} s")

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
        async with await connect(own, vhost, tenant.client_key + tenant.client_certificate, **_CONNECTION):
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
        with Client(
            access.management_url,
            user,
            access.password,
            Timeout(connect=_CONNECT_S, read=30),
            further_urls=access.management_urls,
            ca_certificate=access.ca_certificate,
        ) as client:
            try:
                client.get("queues", vhost, columns="name")
            except BrokerFailed as error:
                if error.status not in (401, 403, 404):  # 404: it does not see the vhost
                    raise
            else:
                yield user


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
