"""Predictors: plain numbers that answer as LightGBM does, and as the SDK does."""

from __future__ import annotations

from collections.abc import Sequence

import lightgbm
import numpy as np
import pytest

from kryonix.routing.known import Known
from kryonix.training.predictors import Labels, crossed, fit, forest_of, matrix, score


def known(number: int, shape: str) -> Known:
    return Known("crm", "leads.create", 1.7e9 + number * 60, f"m{number}", 100 + number % 900, "web", shape, None, None)


def labelled(values: Sequence[float]) -> Labels:
    return Labels(np.array(values), np.ones(len(values), dtype=np.bool_))


def test_exported_trees_answer_as_lightgbm_does() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(2_000, 7))
    booster = lightgbm.train(
        {"num_leaves": 8, "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(rows, rows[:, 0] * 2 + np.sin(rows[:, 3] * 3)),
        num_boost_round=30,
    )
    forest = forest_of(booster.dump_model())
    forest.check(7)
    expected = booster.predict(rows)
    assert score(forest, rows) == pytest.approx(expected, abs=1e-4)
    assert [forest.score(row) for row in rows[:200].tolist()] == pytest.approx(expected[:200], abs=1e-4)


def test_a_forest_scores_one_row_as_it_scores_many() -> None:
    messages = [known(number, f"s{number % 5}") for number in range(1_000)]
    labels = labelled([float(number % 5) for number in range(1_000)])
    learned = fit(messages, labels, labels)
    rows = matrix(messages, learned.shapes, learned.unknown)
    together = score(learned.time, rows)
    assert together.tolist() == pytest.approx([learned.time.score(row) for row in rows.tolist()], abs=1e-9)
    assert together == pytest.approx(labels.values, abs=0.1)


def test_crossed_predictions_have_not_seen_their_messages() -> None:
    # Each message has a shape of its own: what is learned by heart helps with no other.
    messages = [known(number, f"only{number // 5}") for number in range(1_000)]
    values = np.random.default_rng(5).normal(size=200).repeat(5)
    labels = Labels(values, np.ones(1_000, dtype=np.bool_))
    seen = fit(messages, labels, labels)
    by_heart = score(seen.time, matrix(messages, seen.shapes, seen.unknown))
    unseen, _ = crossed(messages, labels, labels)
    assert np.corrcoef(by_heart, values)[0, 1] > 0.7
    assert abs(np.corrcoef(unseen, values)[0, 1]) < 0.2


def test_without_labels_everything_is_average() -> None:
    messages = [known(number, "s") for number in range(100)]
    nothing = Labels(np.zeros(100), np.zeros(100, dtype=np.bool_))
    learned = fit(messages, nothing, nothing)
    assert learned.unknown == (0.0, 0.0)
    assert learned.left.score((0.0,) * 7) == 0.0


def test_only_the_commonest_shapes_are_kept() -> None:
    messages = [known(number, f"s{min(number % 100, 50)}") for number in range(2_000)]
    labels = labelled([1.0] * 2_000)
    assert len(fit(messages, labels, labels, most_shapes=10).shapes) == 10
    assert "s50" in fit(messages, labels, labels, most_shapes=1).shapes
