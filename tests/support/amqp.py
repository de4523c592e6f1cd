"""AMQP for an application, and a vhost's objects for its administrator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aio_pika
import httpx
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from kryonix.topology.naming import stats_user
from tests.support.management import ManagementApi
from tests.support.waiting import eventually, eventually_async

__all__ = ["CONNECTION_REFUSED", "Account", "Application", "administrator", "publish", "take"]

CONNECTION_REFUSED = AMQPError
"""What opening a connection raises where the broker refuses it."""

Policies = dict[str, dict[str, str | int]]
"""Queues and the definition of the policy in force at each."""

_CONNECT_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Account:
    """Somebody with a user and a password, and the vhost that is opened."""

    host: str
    port: int
    management_url: str
    username: str
    password: str = field(repr=False)
    vhost: str = "/"

    async def connect(self) -> AbstractConnection:
        return await aio_pika.connect(
            host=self.host,
            port=self.port,
            login=self.username,
            password=self.password,
            virtualhost=self.vhost,
            timeout=_CONNECT_TIMEOUT_S,
        )

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a connection with one channel with publisher confirms."""
        async with await self.connect() as connection, connection.channel() as channel:
            yield channel

    def at(self, vhost: str) -> Account:
        """The same user at another vhost."""
        return replace(self, vhost=vhost)

    def api(self) -> ManagementApi:
        return ManagementApi(self.management_url, self.username, self.password)

    def call(self, method: str, *parts: str, json: Any = None) -> httpx.Response:
        """One call of the management API."""
        with self.api() as api:
            return api.call(method, *parts, json=json)

    def get(self, *parts: str) -> Any:
        return self.call("GET", *parts).raise_for_status().json()


def administrator(outputs: Mapping[str, Any], vhost: str = "/") -> Account:
    """The administrator of a platform, from its stack's outputs."""
    return Account(
        host=outputs["amqp_host"],
        port=int(outputs["amqp_port"]),
        management_url=outputs["management_url"],
        username=outputs["admin_username"],
        password=outputs["admin_password"],
        vhost=vhost,
    )


@dataclass(frozen=True)
class Application:
    """A tenant's application, and the administrator of the broker at the tenant's vhost."""

    id: str
    account: Account
    admin: Account

    @classmethod
    def of(cls, outputs: Mapping[str, Any], id: str) -> Application:
        """From the outputs of the stack that has made the tenant."""
        tenant = outputs["tenants"][id]
        admin = administrator(outputs, tenant["vhost"])
        return cls(id, replace(admin, username=tenant["username"], password=tenant["password"]), admin)

    @property
    def vhost(self) -> str:
        return self.account.vhost

    @property
    def stats(self) -> Account:
        """The same tenant's user for figures, with the same password."""
        return replace(self.account, username=stats_user(self.account.username))

    def name(self, *parts: str) -> str:
        """A name of the tenant's own: the main exchange's, or one below it."""
        return ".".join((f"cliente_{self.id}", *parts))

    def queues(self) -> list[str]:
        """The names of all queues in the vhost, whoever made them."""
        return [queue["name"] for queue in self.admin.get("queues", self.vhost)]

    def policies(self, fit: Callable[[Policies], bool] = lambda policies: True) -> Policies:
        """The policy in force at each queue, the plan's operator policy merged in, once they fit.

        They are waited for because they are among a queue's statistics: the broker shows a queue without them until
        its first are out, and a change some seconds later.
        """

        def look() -> Policies | None:
            queues = self.admin.get("queues", self.vhost)
            if not all("effective_policy_definition" in queue for queue in queues):
                return None
            found = {queue["name"]: queue["effective_policy_definition"] or {} for queue in queues}
            return found if fit(found) else None

        return eventually("the policies in force fit", look)

    async def holding(self) -> dict[str, int]:
        """The queues of the vhost that hold ready messages, and how many, without their names' common beginning."""
        counts: Counter[str] = Counter()
        names = await asyncio.to_thread(self.queues)
        async with self.admin.channel() as channel:
            for name in names:
                counts[name.removeprefix(self.name() + ".")] = await ready(channel, name)
        return dict(+counts)

    async def comes_to_hold(self, expected: Mapping[str, int], *, within_s: float = 60) -> dict[str, int]:
        """What the vhost holds once that is what is expected, or in the end: a busy broker says 0 when it is asked."""
        held: dict[str, int] = {}

        async def as_expected() -> bool:
            nonlocal held
            held = await self.holding()
            return held == expected

        with suppress(TimeoutError):
            await eventually_async(as_expected, within_s, every=0.1)
        return held

    async def empty(self) -> None:
        """Take every message out of the vhost."""
        names = await asyncio.to_thread(self.queues)
        async with self.admin.channel() as channel:
            for name in names:
                await (await channel.get_queue(name, ensure=False)).purge()


async def ready(channel: AbstractChannel, queue: str) -> int:
    """How many messages of a queue are ready, now; 0 for a queue that is not there."""
    try:
        declared = await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        await channel.reopen()
        return 0
    return declared.declaration_result.message_count or 0


async def publish(
    channel: AbstractChannel, exchange: str, key: str = "", body: bytes = b"x", **properties: Any
) -> None:
    """Publish one persistent message; raises where the broker refuses it."""
    target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
    await target.publish(message, key)


async def take(channel: AbstractChannel, queue: str, *, within_s: float = 30) -> AbstractIncomingMessage:
    """The next message of a queue, not acknowledged yet. Raises TimeoutError where none comes."""
    source = await channel.get_queue(queue, ensure=False)
    message: AbstractIncomingMessage = await eventually_async(lambda: source.get(fail=False, timeout=30), within_s)
    return message
