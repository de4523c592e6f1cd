"""Operations refused to a tenant's application with its own credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused

from tests.support.amqp import CONNECTION_REFUSED, Account, Application, publish

Attempt = Callable[[AbstractChannel], Awaitable[Any]]

QUEUE = "cliente_beta.crm.leads.create"
PUBLISHING = ("", ".mobile_priority", ".business_critical", ".automation", ".unrouted")


async def queue(channel: AbstractChannel, name: str = QUEUE) -> AbstractQueue:
    return await channel.get_queue(name, ensure=False)


async def exchange(channel: AbstractChannel, name: str) -> AbstractExchange:
    return await channel.get_exchange(name, ensure=False)


def refused(account: Account, attempt: Attempt) -> bool:
    """Whether the broker refuses an attempt for want of permission."""

    async def run() -> None:
        async with account.channel() as channel:
            with pytest.raises(ChannelAccessRefused):
                await attempt(channel)

    asyncio.run(run())
    return True


@pytest.mark.parametrize("name", ["cliente_beta.crm.mine", "cliente_beta.mine", "mine", "cliente_acme.crm.mine"])
def test_a_tenant_declares_no_queue(beta: Application, name: str) -> None:
    assert refused(beta.account, lambda channel: channel.declare_queue(name, durable=True))
    assert name not in beta.queues()


def test_a_tenant_declares_no_queue_for_a_moment_either(beta: Application) -> None:
    assert refused(beta.account, lambda channel: channel.declare_queue(exclusive=True))


@pytest.mark.parametrize("name", [QUEUE, f"{QUEUE}.dlq", "cliente_beta.unrouted"])
def test_a_tenant_deletes_no_queue_of_its_own(beta: Application, name: str) -> None:
    assert refused(beta.account, lambda channel: channel.queue_delete(name))
    assert name in beta.queues()


@pytest.mark.parametrize("name", ["cliente_beta.mine", "mine", "cliente_acme"])
def test_a_tenant_declares_no_exchange(beta: Application, name: str) -> None:
    assert refused(beta.account, lambda channel: channel.declare_exchange(name, durable=True))


@pytest.mark.parametrize("name", [*(f"cliente_beta{end}" for end in PUBLISHING), "cliente_beta.crm.dlx", "amq.topic"])
def test_a_tenant_deletes_no_exchange(beta: Application, name: str) -> None:
    assert refused(beta.account, lambda channel: channel.exchange_delete(name))


@pytest.mark.parametrize("source", [*(f"cliente_beta{end}" for end in PUBLISHING), "cliente_beta.crm.dlx", "amq.topic"])
def test_a_tenant_binds_and_unbinds_no_queue(beta: Application, source: str) -> None:
    async def bind(channel: AbstractChannel) -> None:
        await (await queue(channel)).bind(source, "anything")

    async def unbind(channel: AbstractChannel) -> None:
        await (await queue(channel)).unbind(source, "crm.leads.create.*")

    before = beta.admin.get("bindings", beta.vhost)
    assert refused(beta.account, bind)
    assert refused(beta.account, unbind)
    assert beta.admin.get("bindings", beta.vhost) == before


@pytest.mark.parametrize("source", ["cliente_beta", "cliente_beta.automation", "cliente_beta.crm.dlx", "amq.topic"])
def test_a_tenant_binds_no_exchange_to_another(beta: Application, source: str) -> None:
    async def bind(channel: AbstractChannel) -> None:
        await (await exchange(channel, "cliente_beta.mobile_priority")).bind(source, "#")

    assert refused(beta.account, bind)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("", QUEUE),
        ("amq.topic", "crm.leads.create.high"),
        ("amq.direct", QUEUE),
        ("amq.fanout", ""),
        ("amq.headers", ""),
        ("cliente_betamax", "crm.leads.create.high"),
        ("cliente_acme", "crm.leads.create.high"),
    ],
)
def test_a_tenant_writes_to_no_exchange_but_its_own(beta: Application, name: str, key: str) -> None:
    assert refused(beta.account, lambda channel: publish(channel, name, key))
    assert asyncio.run(beta.holding()) == {}


@pytest.mark.parametrize("name", ["intruder", "cliente_betamax.crm.leads.create", "cliente_acme.crm.leads.create"])
def test_a_tenant_reads_and_purges_no_queue_but_its_own(beta: Application, name: str) -> None:
    async def consume(channel: AbstractChannel) -> None:
        await (await queue(channel, name)).consume(AbstractIncomingMessage.ack)

    async def get(channel: AbstractChannel) -> None:
        await (await queue(channel, name)).get(fail=False, timeout=30)

    async def purge(channel: AbstractChannel) -> None:
        await (await queue(channel, name)).purge()

    beta.admin.call("PUT", "queues", beta.vhost, name, json={"durable": True}).raise_for_status()
    try:
        for attempt in (consume, get, purge):
            assert refused(beta.account, attempt)
    finally:
        beta.admin.call("DELETE", "queues", beta.vhost, name).raise_for_status()


def test_a_tenant_publishes_to_and_reads_all_its_own_objects(beta: Application) -> None:
    async def run() -> None:
        async with beta.account.channel() as channel:
            for name in set(beta.queues()) - {"cliente_beta.unrouted"}:
                assert await (await queue(channel, name)).get(fail=False, timeout=30) is None
            for end in (*PUBLISHING[:-1], ".crm.dlx", ".financeiro.dlx"):
                await publish(channel, f"cliente_beta{end}", "nowhere")

    asyncio.run(run())


@pytest.mark.parametrize(
    "vhost", ["/cliente_acme", "/", "/kryonix-master", "/shared-services", "/monitoring", "/backup-operations", "/none"]
)
def test_a_tenant_opens_no_vhost_but_its_own(beta: Application, vhost: str) -> None:
    with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
        asyncio.run(beta.account.at(vhost).connect())


def test_a_tenants_password_opens_nothing_for_another_user(acme: Application, beta: Application) -> None:
    account = Account(
        host=acme.account.host,
        port=acme.account.port,
        management_url=acme.account.management_url,
        username=acme.account.username,
        password=beta.account.password,
        vhost=acme.vhost,
    )
    with pytest.raises(ProbableAuthenticationError):
        asyncio.run(account.connect())


def test_a_broker_without_guest(admin: Account) -> None:
    names = {user["name"] for user in admin.get("users")}
    assert "guest" not in names


def test_messages_of_one_tenant_are_in_no_other_vhost(acme: Application, beta: Application) -> None:
    async def run() -> None:
        async with acme.account.channel() as channel:
            await publish(channel, "cliente_acme", "crm.leads.create.high")
            assert await acme.comes_to_hold({"crm.leads.create": 1}) == {"crm.leads.create": 1}
        assert await beta.holding() == {}

    asyncio.run(run())


def test_passive_declarations_reveal_only_the_own_vhost(beta: Application) -> None:
    async def run() -> None:
        async with beta.account.channel() as channel:
            await channel.declare_queue(QUEUE, passive=True)

    asyncio.run(run())
    other = "cliente_acme.crm.leads.create"
    assert refused(beta.account, lambda channel: channel.declare_queue(other, passive=True))
