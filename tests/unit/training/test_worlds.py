"""Models learn what is in a world, refuse what is not, and are given up when the world changes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from kryonix.errors import InvalidChoice
from kryonix.routing.learned import Decider
from kryonix.routing.model import Model, read_model, write_model
from kryonix.training.training import train
from tests.support.guarded import Guarded
from tests.support.worlds import RECIPES, Recipe, World, by_rules, changed, make, missed, play, played, shuffled

MESSAGES = 4_000
WITHIN = 5_000
"""Messages after which a model that is wrong has been given up."""
LOSS = 0.1

FEW_STATED = replace(RECIPES["few stated"], stated=0.05)
"""Enough that a model can be learned from so few messages."""


@cache
def past(recipe: Recipe) -> World:
    return make(recipe, messages=MESSAGES)


@cache
def trained(recipe: Recipe) -> Model:
    content, _ = write_model(train(played(past(recipe))).model)
    return read_model(content, recipe.name)


def guarded(recipe: Recipe) -> Guarded:
    return Guarded(trained(recipe).actions["crm.leads.create"])


@pytest.mark.parametrize("name", ["few shapes", "heavy tails"])
def test_a_model_misses_half_of_what_the_rules_miss(name: str) -> None:
    model = trained(RECIPES[name])
    world = make(RECIPES[name], messages=MESSAGES, part=1, load=1.1)
    decider = Decider(model.actions["crm.leads.create"], model.explore)
    rules = by_rules(world)
    found = [decider.choose(each.known).priority for each in world.messages]
    assert missed(world, play(world, found)) <= 0.5 * missed(world, play(world, rules))


@pytest.mark.parametrize("name", ["kinds", "mixed"])
def test_labels_that_are_shuffled_are_refused(name: str) -> None:
    outcomes = played(make(RECIPES[name], messages=2_500, stated=0.25))
    with pytest.raises(InvalidChoice, match="no action gets a model: crm"):
        train(shuffled(outcomes))


@pytest.mark.parametrize(
    "recipe", [RECIPES["few shapes"], RECIPES["heavy tails"], FEW_STATED], ids=lambda each: each.name
)
def test_a_model_stays_in_use_while_the_world_is_the_same(recipe: Recipe) -> None:
    model = guarded(recipe)
    for part in (1, 2):
        use = model.use(make(recipe, messages=10_000, part=part))
        assert (use.problem, use.stopped_after) == (None, None)
        assert use.loss < -0.3


@pytest.mark.parametrize("handling", [True, False], ids=["all", "deadlines only"])
@pytest.mark.parametrize(
    "recipe", [RECIPES["few shapes"], RECIPES["heavy tails"], FEW_STATED], ids=lambda each: each.name
)
def test_a_model_is_given_up_when_the_world_changes(recipe: Recipe, handling: bool) -> None:
    model = guarded(recipe)
    assert model.use(make(recipe, messages=WITHIN, part=1)).problem is None
    use = model.use(changed(past(recipe), messages=20_000, handling=handling))
    assert use.problem is not None
    assert use.stopped_after is not None
    assert use.stopped_after <= WITHIN
    assert use.loss <= LOSS


def test_a_world_of_a_seed_is_always_the_same() -> None:
    one, other = (make(RECIPES["mixed"], messages=300) for _ in range(2))
    assert one == other
    assert make(RECIPES["mixed"], messages=300, seed=2).messages != one.messages
    assert {each.known.shape for each in make(RECIPES["mixed"], messages=300, part=1).messages} == {
        each.known.shape for each in one.messages
    }
