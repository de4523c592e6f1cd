"""The broker's delayed retry: delays, attempts and dead letters."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from tests.support.amqp import Application, publish, take

QUEUE = "cliente_lab.crm.leads.update"
KEY = "crm.leads.update.medium"
MESSAGE: dict[str, Any] = {
    "headers": {"trace": "abc", "attempt": 1},
    "message_id": "m-1",
    "correlation_id": "c-1",
    "content_type": "application/json",
    "priority": 6,
}


def intact(message: AbstractIncomingMessage) -> bool:
    """Return True if a dead letter is the published message with the broker's headers."""
    headers = {name: message.headers.get(name) for name in MESSAGE["headers"]}
    received = {name: getattr(message, name) for name in MESSAGE if name != "headers"}
    return message.body == b'{"id": 1}' and {"headers": headers, **received} == MESSAGE


def test_a_failed_message_is_dead_lettered_after_growing_delays(
    lab: Application,
) -> None:
    deliveries: defaultdict[str | None, list[float]] = defaultdict(list)

    async def fail(message: AbstractIncomingMessage) -> None:
        deliveries[message.correlation_id].append(time.monotonic())
        await message.reject(requeue=True)

    async def run() -> list[AbstractIncomingMessage]:
        async with lab.account.channel() as channel:
            queue = await channel.get_queue(QUEUE, ensure=False)
            await queue.consume(fail)
            for number in range(5):
                await publish(channel, "cliente_lab", KEY, b'{"id": 1}', **MESSAGE | {"correlation_id": f"c-{number}"})
            dead = [await take(channel, f"{QUEUE}.dlq", within_s=60) for _ in range(5)]
            for message in dead:
                await message.ack()
            return dead

    dead = asyncio.run(run())
    # 1 s times the failures so far, 2 s at most. A busy machine makes single waits longer, and none shorter.
    waits = [[later - earlier for earlier, later in pairwise(each)] for each in deliveries.values()]
    assert [len(each) for each in waits] == [3] * 5
    first, second, third = (min(each) for each in zip(*waits, strict=True))
    assert 0.9 <= first < 1.9
    assert 1.9 <= second < 2.9
    assert 1.9 <= third < 2.9
    assert all(message.headers["trace"] == "abc" and message.priority == 6 for message in dead)
    assert {message.headers["x-death"][0]["queue"] for message in dead} == {QUEUE}  # type: ignore[index,call-overload]


def test_a_message_handled_after_a_failure_is_not_dead_lettered(lab: Application) -> None:
    async def run() -> None:
        async with lab.account.channel() as channel:
            await publish(channel, "cliente_lab", KEY)
            await (await take(channel, QUEUE)).reject(requeue=True)
            again = await take(channel, QUEUE)
            assert again.redelivered
            await again.ack()
        assert await lab.holding() == {}

    asyncio.run(run())


def test_a_rejected_message_is_dead_lettered_at_once(lab: Application) -> None:
    async def run() -> AbstractIncomingMessage:
        async with lab.account.channel() as channel:
            await publish(channel, "cliente_lab", KEY, b'{"id": 1}', **MESSAGE)
            await (await take(channel, QUEUE)).reject(requeue=False)
            dead = await take(channel, f"{QUEUE}.dlq")
            await dead.ack()
            return dead

    dead = asyncio.run(run())
    assert intact(dead)
    # Through the retries it would come for another reason, after several deliveries.
    assert dead.headers["x-death"][0]["reason"] == "rejected"  # type: ignore[index,call-overload]
    assert dead.headers["x-acquired-count"] == 1


def test_an_expired_message_is_dead_lettered(lab: Application) -> None:
    async def run() -> AbstractIncomingMessage:
        async with lab.account.channel() as channel:
            await publish(channel, "cliente_lab", KEY, b'{"id": 1}', expiration=0.1, **MESSAGE)
            dead = await take(channel, f"{QUEUE}.dlq")
            await dead.ack()
            return dead

    assert intact(asyncio.run(run()))


def test_a_dead_letter_goes_to_its_own_actions_queue_only(lab: Application) -> None:
    async def run() -> None:
        async with lab.account.channel() as channel:
            for key in ("crm.leads.create.high", "crm.leads.create.low", "whatsapp.media.process.low"):
                await publish(channel, "cliente_lab", key)
            for queue in ("crm.leads.create.high", "crm.leads.create", "whatsapp.media.process"):
                await (await take(channel, lab.name(queue))).reject(requeue=False)
            only = {"crm.leads.create.dlq": 2, "whatsapp.media.process.dlq": 1}
            assert await lab.comes_to_hold(only) == only

    asyncio.run(run())
