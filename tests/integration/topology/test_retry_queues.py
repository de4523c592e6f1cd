"""The retry strategy `queues`, for brokers without delayed retry: applications park failed messages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiormq.exceptions import ChannelAccessRefused

from tests.support.amqp import Application, publish, take

QUEUE = "portal.treinamentos.sync"


def test_every_action_has_one_retry_queue_for_each_attempt(oldstyle: Application) -> None:
    names = oldstyle.queues()
    assert len([name for name in names if ".retry." in name]) == 2 * 10
    for attempt in (1, 2):
        assert oldstyle.name(QUEUE, "retry", str(attempt)) in names


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 1), (2, 2)])
def test_a_parked_message_returns_after_its_attempts_delay(oldstyle: Application, attempt: int, delay_s: int) -> None:
    async def run() -> float:
        async with oldstyle.account.channel() as channel:
            parked = time.monotonic()
            retry = f"{QUEUE}.retry.{attempt}"
            await publish(channel, "cliente_oldstyle.portal.dlx", retry, b"b", headers={"trace": "1"})
            message = await take(channel, oldstyle.name(QUEUE))
            await message.ack()
            assert (message.body, message.headers["trace"]) == (b"b", "1")
            death: Any = message.headers["x-death"]
            assert (death[0]["queue"], death[0]["reason"]) == (oldstyle.name(retry), "expired")
            return time.monotonic() - parked

    assert delay_s <= min(asyncio.run(run()) for _ in range(3)) < delay_s + 1


def test_a_message_is_parked_by_the_exchange_only(oldstyle: Application) -> None:
    async def run() -> None:
        async with oldstyle.account.channel() as channel:
            with pytest.raises(ChannelAccessRefused):
                await publish(channel, "", oldstyle.name(QUEUE, "retry", "1"))

    asyncio.run(run())


def test_a_message_goes_to_the_dead_letter_queue_after_the_last_attempt(oldstyle: Application) -> None:
    async def run() -> None:
        async with oldstyle.account.channel() as channel:
            await publish(channel, "cliente_oldstyle", f"{QUEUE}.low")
            await (await take(channel, oldstyle.name(QUEUE))).reject(requeue=False)
            only = {f"{QUEUE}.dlq": 1}
            assert await oldstyle.comes_to_hold(only) == only

    asyncio.run(run())
