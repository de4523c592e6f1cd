"""The replay that models are chosen by is the same queue as the one that worlds are played in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kryonix.training.lessons import lesson_of
from kryonix.training.replay import Traffic, simulate
from tests.support.worlds import LOADS, RECIPES, World, by_rules, make, missed, play, played


def traffic(world: World) -> Traffic:
    return Traffic(
        np.array([(each.known.at - world.messages[0].known.at) * 1000 for each in world.messages]),
        np.array([each.handled_ms for each in world.messages]),
        np.array([each.patience_ms for each in world.messages]),
        np.array([each.stated for each in world.messages]),
        world.servers,
    )


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_replay_of_a_world_is_how_the_world_was_played(name: str, load: float) -> None:
    world = make(RECIPES[name], load=load, messages=2_000)
    priorities = by_rules(world)
    expected, found = play(world, priorities), simulate(traffic(world), priorities)
    assert found.waits == pytest.approx([each.waited_ms for each in expected])
    assert found.dropped.tolist() == [each.expired for each in expected]
    assert found.missed.sum() == missed(world, expected)


@pytest.mark.parametrize("name", RECIPES)
def test_the_number_of_handlers_is_found_in_the_outcomes(name: str) -> None:
    world = make(RECIPES[name], messages=4_000)
    assert lesson_of(played(world)).traffic.servers == world.servers


def test_times_that_cannot_be_added_up_are_replayed_all_the_same() -> None:
    endless = [
        replace(each, handled_ms=1e308, expires_ms=1e308) for each in played(make(RECIPES["kinds"], messages=500))
    ]
    lesson = lesson_of(endless)
    completed = lesson.completed(lesson.time.values, lesson.left.values).at(0.95)
    assert np.isfinite(simulate(completed, lesson.rules).waits).all()
