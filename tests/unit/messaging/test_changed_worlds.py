"""A router in use, in worlds that stay the same and that change: an application's own code, without a broker."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from kryonix.messaging import LearnedRouter, MemoryBroker
from kryonix.messaging.outcomes import Consumed
from kryonix.routing.known import Known, rules_priority
from kryonix.routing.model import write_model
from kryonix.training.training import train
from tests.support.worlds import RECIPES, Played, World, changed, live, make, missed, play, played

pytestmark = pytest.mark.anyio

ACTION = "crm.leads.create"
WITHIN = 5_000
LOSS = 0.1
LATER_S = 520 * 7 * 86_400.0
"""Whole weeks: by the clock, none of the world's messages is late."""


@cache
def past() -> World:
    return make(RECIPES["few shapes"], messages=4_000)


@cache
def content() -> bytes:
    return write_model(train(played(past())).model)[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.json"
    path.write_bytes(content())
    return path


class Driver:
    """Give a router the messages of a world, and what becomes of them."""

    def __init__(self, router: LearnedRouter) -> None:
        self._router = router
        router.consumes("crm", "leads.create")
        self.stopped_after: int | None = None

    def use(self, world: World) -> tuple[int, int]:
        """Return how many deadlines were missed, and how many the rules would have missed."""
        self.stopped_after = None
        known = [replace(each.known, at=each.known.at + LATER_S) for each in world.messages]

        def decide(number: int) -> int:
            chosen = self._router.choose(known[number])
            if self.stopped_after is None and self._router.status().problem:
                self.stopped_after = number
            return chosen.priority if chosen is not None and chosen.who == "learned" else _rules(known[number])

        def became(number: int, one: Played) -> None:
            # Nobody tells of a message that the broker has dropped.
            if not one.expired:
                self._router.became(_note(known[number], one.waited_ms, world.messages[number].handled_ms))

        found = live(world, decide, became)
        return missed(world, found), missed(world, play(world, [_rules(each) for each in known]))


def _rules(known: Known) -> int:
    return rules_priority(known.priority, known.expires_ms)


def _note(known: Known, waited_ms: float, handled_ms: float) -> Consumed:
    return Consumed(
        tenant="memory",
        module="crm",
        action="leads.create",
        message_id=known.message_id,
        at=known.at,
        waited_ms=waited_ms,
        handled_ms=handled_ms,
        attempts=1,
        outcome="done",
    )


async def test_a_router_is_used_until_its_world_changes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    router = LearnedRouter(file, mode="on")
    async with await MemoryBroker(modules=["crm"]).connect(router=router):
        driver = Driver(router)
        ours, rules = driver.use(make(RECIPES["few shapes"], messages=WITHIN, part=1))
        assert router.status().problem == {}
        assert ours <= 0.5 * rules
        ours, rules = driver.use(changed(past(), messages=15_000))
    assert driver.stopped_after is not None
    assert driver.stopped_after <= WITHIN
    assert ours - rules <= LOSS * rules
    assert list(router.status().problem) == [ACTION]
    (said,) = [each for each in caplog.records if "back to the rules" in each.getMessage()]
    assert said.__dict__["kryonix.event"] == "routing.fallback"


async def test_the_same_router_in_shadow_changes_nothing(file: Path) -> None:
    router = LearnedRouter(file, mode="shadow")
    async with await MemoryBroker(modules=["crm"]).connect(router=router):
        ours, rules = Driver(router).use(make(RECIPES["few shapes"], messages=2_000, part=1))
    assert ours == rules
    assert router.status().decisions == {ACTION: {"rules": 2_000}}
