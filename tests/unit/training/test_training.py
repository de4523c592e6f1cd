"""Training: what gets a model, what is refused, and that a model decides as it was judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from kryonix.errors import InvalidChoice
from kryonix.routing.learned import Decider
from kryonix.routing.model import MAX_BYTES, read_model, write_model
from kryonix.routing.outcomes import Outcome
from kryonix.training.lessons import lesson_of
from kryonix.training.policies import AGEING, Sample, priorities
from kryonix.training.predictors import fit
from kryonix.training.spreads import usual
from kryonix.training.training import FEWEST, FEWEST_STATED, LONGEST, NotWorthIt, Trained, sizes, train
from tests.support.worlds import RECIPES, Recipe, make, played, shuffled


@cache
def outcomes(name: str = "mixed", messages: int = 5_000) -> tuple[Outcome, ...]:
    return tuple(played(make(RECIPES[name], messages=messages, load=0.95, seed=5)))


SAID: list[str] = []


@cache
def trained(explore: float = 0.01) -> Trained:
    return train(outcomes(), explore=explore, progress=SAID.append)


def refusals(given: Sequence[Outcome]) -> str:
    with pytest.raises(NotWorthIt) as caught:
        train(given)
    return str(caught.value)


def test_a_model_misses_fewer_deadlines_than_rules_and_table() -> None:
    (report,) = trained().report
    assert report.refused is None
    for held in report.held[1:]:  # at the lowest load nobody misses much
        assert held.model < 0.6 * held.rules
        assert held.model < held.table


def test_a_model_explains_what_it_is_said_to_explain() -> None:
    (report,) = trained().report
    assert report.explained_time is not None
    assert 0.1 < report.explained_time < 1
    assert trained().model.actions[report.action].held_out["explained_time"] == pytest.approx(
        report.explained_time, rel=1e-4
    )


def test_one_message_is_decided_as_all_are_in_the_replay() -> None:
    model = trained(explore=0.2).model
    (learned,) = model.actions.values()
    lesson = lesson_of(outcomes())
    decider = Decider(learned, model.explore)
    predictions = [decider.predict(each) for each in lesson.known]
    time, left = (np.array([getattr(each, name) for each in predictions]) for name in ("time", "left"))
    sample = Sample(lesson.traffic, lesson.left_of(left), time, lesson.rules, lesson.explored(model.explore))
    together = priorities(learned.policy, sample).tolist()
    assert together == [decider.choose(each).priority for each in lesson.known]
    assert len(set(together)) > 5


def test_a_model_survives_its_file() -> None:
    content, version = write_model(trained().model)
    found = read_model(content, "model.json")
    assert (found.version, found.actions) == (version, trained().model.actions)
    assert len(content) <= MAX_BYTES


def test_equal_outcomes_make_equal_models() -> None:
    assert train(outcomes(), explore=0.01).model.actions == trained().model.actions


def test_a_model_of_forty_actions_fits_its_file() -> None:
    trees, shapes = sizes(40)
    lesson = lesson_of(outcomes())
    known = [replace(each, shape=f"{number % 400:016x}") for number, each in enumerate(lesson.known)]
    made = fit(known, lesson.time, lesson.left, lesson.time, trees=trees, most_shapes=shapes)
    (learned,) = trained().model.actions.values()
    full = replace(learned, shapes=made.shapes, time=made.time, left=made.left, saving=made.saving, usual=usual(known))
    model = replace(trained().model, actions={f"crm.leads.action{number}": full for number in range(40)})
    content, _ = write_model(model)
    assert 300_000 < len(content) <= MAX_BYTES


def test_shuffled_labels_are_refused() -> None:
    said = refusals(shuffled(outcomes()))
    assert "neither handling times nor expiries can be told" in said
    assert said.endswith("The rules stay")  # more outcomes would not help


def test_a_model_that_is_no_better_than_a_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.training.training.priorities", lambda policy, sample: np.full(len(sample.rules), 5))
    said = refusals(outcomes())
    assert re.search(
        r"a tuned table does as well: the model misses or nearly misses [\d.]+ % more\. The rules stay$", said
    )


def test_too_few_messages_are_refused() -> None:
    assert f"{FEWEST - 1:,} messages, at least {FEWEST:,} are needed. The rules stay. Collect more" in refusals(
        outcomes()[: FEWEST - 1]
    )


def test_messages_without_expiries_are_refused() -> None:
    silent = [replace(each, expires_ms=None, outcome="done") for each in outcomes()]
    assert f"0 messages with an expiry, at least {FEWEST_STATED} are needed" in refusals(silent)


def test_no_outcomes_at_all_are_an_error_of_the_input() -> None:
    with pytest.raises(InvalidChoice, match="there are no outcomes to learn from"):
        train([])


def test_a_refused_action_is_named_in_the_model() -> None:
    few = [replace(each, action="leads.update") for each in outcomes()[:10]]
    model = train([*outcomes(), *few]).model
    assert model.actions.keys() == trained().model.actions.keys()
    assert "10 messages" in next(iter(model.refused.values()))


def test_progress_names_the_action_and_its_steps() -> None:
    (action,) = trained().model.actions
    steps = ("learning to predict", "searching a policy", "comparing on what was held out")
    assert SAID[:3] == [f"{action}: {step}" for step in steps]


def test_a_model_that_lets_messages_age_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.training.training.LONGEST", 0.1)
    assert re.search(r"a message waits \d\.\d times as long as any by the rules, .*at most 0\.1", refusals(outcomes()))


EXPIRING = Recipe(
    name="expiring",
    kinds=5,
    servers=4,
    handling_ms=20,
    patience=(3, 3_000),
    stated=0.1,
    size=(0.28, 0.0),
    mobile=-1.9,
    patience_noise=0.5,
    handling_noise=0.4,
    handling_spread=0.4,
    given=0.0,
)
"""Overloaded, the rules handle none of the urgent messages in time: who handles them makes the others wait."""


def test_messages_may_wait_as_long_as_with_the_tuned_table() -> None:
    (action,) = train(played(make(EXPIRING, messages=6_000, seed=3))).report
    overloaded = action.held[-1]
    assert overloaded.longest_table_ms > LONGEST * overloaded.longest_rules_ms
    assert overloaded.longest_model_ms <= LONGEST / AGEING * overloaded.longest_table_ms
    assert overloaded.model <= 0.8 * overloaded.table
