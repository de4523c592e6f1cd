"""A queue with priorities against its simulation: what routing is trained and judged by must be what a broker does."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import correlation, mean

import pytest

from kryonix.messaging import Message, MessagingClient
from kryonix.routing.policy import Index, Policy
from tests.support.broker_under_test import World as Tenant
from tests.support.waiting import eventually_async
from tests.support.worlds import RECIPES, World, make, play

pytestmark = pytest.mark.anyio

MESSAGES = 600
SLOTS = 4
HANDLING_MS = 40.0
LOAD = 2.0
"""The handlers can do half of it: the two more urgent of four priorities, and a part of the third."""
CUTS = (0.15, 0.15, 0.15, 0.35, 0.35, 0.65, 0.65, 0.65)
"""Shares of the messages above the priorities 10 to 3. No priority's end is close to what the handlers can just do:
there, a mean wait is chance."""
CLOSE = 0.2


@dataclass
class Run:
    """What really happened, in seconds of one clock, by the number of the message."""

    published: dict[int, float] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    by_slot: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def pauses(self) -> dict[int, float]:
        """Time from the end of a message to the next one in its slot, while messages waited."""
        return {
            number: self.started[following] - self.ended[number]
            for numbers in self.by_slot.values()
            for number, following in pairwise(numbers)
            if self.published[following] < self.ended[number]
        }

    def as_world(self, planned: World) -> tuple[World, list[int]]:
        """Return the world as it came about on this machine, and the numbers of its messages in their order."""
        order = sorted(self.published, key=self.published.__getitem__)
        pauses = self.pauses
        usual = mean(pauses.values())
        sent = [
            replace(
                planned.messages[number],
                known=replace(planned.messages[number].known, at=self.published[number]),
                handled_ms=(self.ended[number] - self.started[number] + pauses.get(number, usual)) * 1000,
            )
            for number in order
        ]
        return replace(planned, messages=sent), order


async def happened(client: MessagingClient, planned: World, priorities: list[int]) -> Run:
    run = Run()

    async def handle(message: Message) -> None:
        number = message.data["number"]
        slot = asyncio.current_task()
        assert slot is not None
        run.by_slot[slot.get_name()].append(number)
        run.started[number] = time.monotonic()
        await asyncio.sleep(planned.messages[number].handled_ms / 1000)
        run.ended[number] = time.monotonic()

    async def send(number: int, at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        await client.portal.send("interacoes.track", {"number": number}, priority=priorities[number], timeout=60)
        run.published[number] = time.monotonic()

    # As many deliveries ahead as slots: what is delivered has left the order of the queue.
    await client.portal.consume("interacoes.track", handle, concurrency=SLOTS, prefetch=SLOTS)
    begin = time.monotonic() + 0.2 - planned.messages[0].known.at
    async with asyncio.TaskGroup() as sending:
        for number, each in enumerate(planned.messages):
            sending.create_task(send(number, begin + each.known.at))
    await eventually_async(lambda: len(run.ended) == MESSAGES)
    return run


async def test_order_and_waits_agree_with_the_simulation(world: Tenant) -> None:
    recipe = replace(RECIPES["kinds"], servers=SLOTS, handling_ms=HANDLING_MS, handling_noise=0.3, stated=0.0)
    planned = make(recipe, load=LOAD, messages=MESSAGES)
    lefts = sorted(math.log(each.patience_ms) for each in planned.messages)
    policy = Policy(Index(1.0, 0.0), tuple(lefts[round(MESSAGES * cut)] for cut in CUTS))
    priorities = [policy.priority(math.log(each.patience_ms), 0.0) for each in planned.messages]
    async with await world.connect() as client:
        run = await happened(client, planned, priorities)

    real, order = run.as_world(planned)
    simulated = play(real, [priorities[number] for number in order])
    started = [run.started[number] for number in order]
    expected = [each.known.at + one.waited_ms / 1000 for each, one in zip(real.messages, simulated, strict=True)]
    assert correlation(_ranks(started), _ranks(expected)) >= 1 - CLOSE / 2
    waits: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for number, one in zip(order, simulated, strict=True):
        waits[priorities[number]].append(((run.started[number] - run.published[number]) * 1000, one.waited_ms))
    assert sorted(waits) == [2, 5, 7, 10]
    found = {
        priority: (mean(each[0] for each in both), mean(each[1] for each in both)) for priority, both in waits.items()
    }
    for priority, (measured, told) in found.items():
        # The first ones wait for the end of a handler only, which a busy machine may hold up.
        assert measured == pytest.approx(told, rel=CLOSE, abs=2 * HANDLING_MS), f"priority {priority}: {found}"
    assert found[10][0] < found[2][0] / 10


def _ranks(values: list[float]) -> list[float]:
    found = [0.0] * len(values)
    for rank, number in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        found[number] = float(rank)
    return found
