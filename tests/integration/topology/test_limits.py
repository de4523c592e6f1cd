"""The broker enforces the plan's limits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import ChannelPreconditionFailed, ConnectionNotAllowed

from kryonix.topology.catalog import MIB
from tests.support.amqp import CONNECTION_REFUSED, Application, publish
from tests.support.waiting import eventually_async

QUEUE = "cliente_lab.crm.leads.update"
DAY_MS = 86_400_000


def test_the_plans_depth_limit_holds_for_all_but_dead_letter_queues(acme: Application, beta: Application) -> None:
    for tenant, depth, size in ((acme, 10_000, 64 * MIB), (beta, 1_000, 8 * MIB)):
        policies = tenant.policies()
        assert len(policies) == len(tenant.queues())
        limited = {name: definition for name, definition in policies.items() if not name.endswith(".dlq")}
        assert {definition.get("max-length") for definition in limited.values()} == {depth}
        assert {definition.get("max-length-bytes") for definition in limited.values()} == {size}
        assert {definition.get("overflow") for definition in limited.values()} == {"reject-publish"}


def test_an_action_queue_keeps_its_modules_retention_and_retries(acme: Application) -> None:
    policies = acme.policies()
    for queue, days in (("crm.leads.create", 1), ("whatsapp.media.process", 7), ("financeiro.faturas.create", 90)):
        assert policies[acme.name(queue)] == {
            "message-ttl": days * DAY_MS,
            "delivery-limit": 3,
            "delayed-retry-type": "all",
            "delayed-retry-min": 1_000,
            "delayed-retry-max": 60_000,
            "dead-letter-strategy": "at-least-once",
            "overflow": "reject-publish",
            "max-length": 10_000,
            "max-length-bytes": 64 * MIB,
        }


def test_dead_letter_queues_keep_10000_messages_for_a_day(acme: Application, beta: Application) -> None:
    for tenant in (acme, beta):
        dead = [definition for name, definition in tenant.policies().items() if name.endswith(".dlq")]
        kept = {"message-ttl": DAY_MS, "max-length": 10_000, "max-length-bytes": 16 * MIB, "delivery-limit": -1}
        assert dead
        assert all(definition == kept for definition in dead)


async def accepted_before_a_refusal(channel: AbstractChannel, at_most: int) -> int:
    """How many messages the broker takes, sent one by one, before it refuses one."""
    for number in range(at_most):
        try:
            await publish(channel, "cliente_lab", "crm.leads.update.low")
        except DeliveryError:
            return number
    return at_most


def test_a_full_queue_of_a_basic_tenant_refuses_the_next_message(lab: Application) -> None:
    async def run() -> int:
        async with lab.account.channel() as channel:
            accepted = await accepted_before_a_refusal(channel, 1100)
        held = {"crm.leads.update": accepted}
        assert await lab.comes_to_hold(held) == held
        return accepted

    # The broker lets in the message that makes it notice, and those that are on their way meanwhile.
    assert 1000 <= asyncio.run(run()) <= 1005


def test_a_full_queue_accepts_again_when_there_is_room(lab: Application) -> None:
    async def run() -> None:
        async with lab.account.channel() as channel:
            await accepted_before_a_refusal(channel, 1100)
            await (await channel.get_queue(QUEUE, ensure=False)).purge()

            async def accepted() -> bool:
                await publish(channel, "cliente_lab", "crm.leads.update.low")
                return True

            await eventually_async(accepted, every=0.1, ignoring=(DeliveryError,))

    asyncio.run(run())


def test_dead_letter_queues_take_more_than_the_plans_depth(lab: Application) -> None:
    async def run() -> dict[str, int]:
        async with lab.account.channel() as channel:
            sent = (publish(channel, "cliente_lab.crm.dlx", "crm.leads.update.dlq") for _ in range(1100))
            await asyncio.gather(*sent)
        return await lab.comes_to_hold({"crm.leads.update.dlq": 1100})

    assert asyncio.run(run()) == {"crm.leads.update.dlq": 1100}


async def shown(tenant: Application, connections: int) -> None:
    """Wait until the broker has noticed how many connections the tenant has: it counts them late."""

    async def noticed() -> bool:
        return len(await asyncio.to_thread(tenant.admin.get, "vhosts", tenant.vhost, "connections")) == connections

    await eventually_async(noticed, every=0.2)


def test_the_eleventh_connection_of_a_basic_tenant_is_refused(lab: Application) -> None:
    async def run() -> None:
        async with AsyncExitStack() as connections:
            await shown(lab, 0)
            for _ in range(10):
                await connections.enter_async_context(await lab.account.connect())
            await shown(lab, 10)
            with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
                await lab.account.connect()
        connection = await eventually_async(lab.account.connect, every=0.1, ignoring=(CONNECTION_REFUSED,))
        await connection.close()

    asyncio.run(run())


def test_the_hundred_and_first_channel_of_a_basic_tenant_is_refused(lab: Application) -> None:
    async def run() -> None:
        connection = await lab.account.connect()
        for _ in range(100):
            await connection.channel()
        await asyncio.sleep(2)  # the broker counts a channel once it is open
        with pytest.raises(ConnectionNotAllowed, match="maximum allowed user limit of 100"):
            await connection.channel()

    asyncio.run(run())


def test_the_plans_queue_limit_applies_to_administrators(lab: Application) -> None:
    allowed = [f"extra-{number}" for number in range(50 - len(lab.queues()))]

    async def run() -> None:
        async with lab.admin.channel() as channel:
            try:
                for name in allowed:
                    await channel.declare_queue(name, durable=True)
                async with lab.admin.channel() as another:
                    with pytest.raises(ChannelPreconditionFailed, match="queue limit"):
                        await another.declare_queue("extra", durable=True)
            finally:
                for name in allowed:
                    await channel.queue_delete(name)

    assert allowed
    asyncio.run(run())
