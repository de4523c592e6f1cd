"""Priorities within one queue."""

from __future__ import annotations

import asyncio
import random

from tests.support.amqp import Application, publish, take


def test_a_queue_delivers_by_priority_then_in_order(beta: Application) -> None:
    sent = [(priority, turn) for priority in range(11) for turn in range(3)]
    random.Random(7).shuffle(sent)
    in_order = sorted(sent, key=lambda message: (-message[0], sent.index(message)))

    async def run() -> list[tuple[int, int]]:
        queue = beta.name("crm.leads.create")
        async with beta.account.channel() as channel:
            for priority, turn in sent:
                await publish(channel, "cliente_beta", "crm.leads.create.low", b"%d" % turn, priority=priority)
            received = []
            for _ in sent:
                message = await take(channel, queue)
                received.append((message.priority or 0, int(message.body)))
                await message.ack()
        return received

    assert asyncio.run(run()) == in_order
