"""Predict an action's handling times and times left, by boosted trees."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from kryonix.routing.forest import Forest, Tree
from kryonix.routing.known import FEATURES, Known
from kryonix.routing.learned import row_of
from kryonix.training.replay import Numbers

TREES: Final = 40
_LEAVES: Final = 8
_RATE: Final = 0.12
_FOLDS: Final = 4
_SMOOTHING: Final = 20
"""Messages' worth of the average in each shape's mean."""
MAX_SHAPES: Final = 300
_FEWEST_OF_SHAPE: Final = 5
_DIGITS: Final = 6

Chosen = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labels:
    """Natural logarithms of ms (or of a ratio), and which messages have one."""

    values: Numbers
    known: Chosen

    def only(self, chosen: Chosen) -> Labels:
        return Labels(self.values, self.known & chosen)


@dataclass(frozen=True, slots=True)
class Predictors:
    """Two or three forests, and each shape's means that they read."""

    shapes: dict[str, tuple[float, float]]
    unknown: tuple[float, float]
    time: Forest
    left: Forest
    saving: Forest | None = None


def fit(
    known: Sequence[Known],
    time: Labels,
    left: Labels,
    saving: Labels | None = None,
    *,
    trees: int = TREES,
    most_shapes: int = MAX_SHAPES,
) -> Predictors:
    """Learn from the labels that are known."""
    times, lefts = _shape_means(known, time), _shape_means(known, left)
    common = Counter(each.shape for each in known).most_common(most_shapes)
    names = [name for name, count in common if count >= _FEWEST_OF_SHAPE]
    unknown = (_rounded(_mean(time)), _rounded(_mean(left)))
    shapes = {name: (times.get(name, unknown[0]), lefts.get(name, unknown[1])) for name in names}
    rows = matrix(known, shapes, unknown)
    return Predictors(
        shapes,
        unknown,
        _forest(rows, time, trees),
        _forest(rows, left, trees),
        None if saving is None else _forest(rows, saving, max(trees // 4, 1)),
    )


def matrix(known: Sequence[Known], shapes: dict[str, tuple[float, float]], unknown: tuple[float, float]) -> Numbers:
    """Return the numbers that the forests read, one row a message."""
    rows = np.empty((len(known), len(FEATURES)))
    for number, each in enumerate(known):
        rows[number] = row_of(each, shapes, unknown)
    return rows


def score(forest: Forest, rows: Numbers) -> Numbers:
    """Return the forest's score of each row."""
    found = np.zeros(len(rows))
    for tree in forest.trees:
        found += _score_tree(tree, rows)
    return found


def _score_tree(tree: Tree, rows: Numbers) -> Numbers:
    if not tree.features:
        return np.full(len(rows), tree.leaves[0])
    features, thresholds = np.array(tree.features), np.array(tree.thresholds)
    lefts, rights, leaves = np.array(tree.lefts), np.array(tree.rights), np.array(tree.leaves)
    nodes = np.zeros(len(rows), dtype=np.int64)
    while (inside := np.flatnonzero(nodes >= 0)).size:
        at = nodes[inside]
        goes_left = rows[inside, features[at]] <= thresholds[at]
        nodes[inside] = np.where(goes_left, lefts[at], rights[at])
    found: Numbers = leaves[~nodes]
    return found


def crossed(known: Sequence[Known], time: Labels, left: Labels) -> tuple[Numbers, Numbers]:
    """Return predictions of each message's handling time and time left by models that have not seen it.

    Each quarter of the time is predicted from the other three. What chooses a policy must not see predictions of
    messages that were learned by heart: they are better than those of new ones.
    """
    folds = np.arange(len(known)) * _FOLDS // len(known)
    times, lefts = np.empty(len(known)), np.empty(len(known))
    for fold in range(_FOLDS):
        inside = folds == fold
        learned = fit(known, time.only(~inside), left.only(~inside))
        here = np.flatnonzero(inside).tolist()
        rows = matrix([known[number] for number in here], learned.shapes, learned.unknown)
        times[inside], lefts[inside] = score(learned.time, rows), score(learned.left, rows)
    return times, lefts


def _mean(labels: Labels) -> float:
    return float(labels.values[labels.known].mean()) if labels.known.any() else 0.0


def _shape_means(known: Sequence[Known], labels: Labels) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for number in np.flatnonzero(labels.known).tolist():
        found[known[number].shape].append(float(labels.values[number]))
    overall = _mean(labels)
    return {
        name: _rounded((sum(values) + _SMOOTHING * overall) / (len(values) + _SMOOTHING))
        for name, values in found.items()
    }


def _forest(rows: Numbers, labels: Labels, trees: int) -> Forest:
    """Return boosted trees for the labels that are known."""
    chosen = labels.known
    settings = {
        "objective": "regression",
        "num_leaves": _LEAVES,
        "learning_rate": _RATE,
        "min_data_in_leaf": max(20, int(chosen.sum()) // 200),
        "num_threads": 1,
        "deterministic": True,
        "seed": 1,
        "verbosity": -1,
    }
    if chosen.sum() < 2 * 20:
        return Forest((Tree((), (), (), (), (), (_rounded(_mean(labels)),)),))
    data = lightgbm.Dataset(rows[chosen], labels.values[chosen], params={"verbosity": -1})
    booster = lightgbm.train(settings, data, num_boost_round=trees)
    return forest_of(booster.dump_model())


def forest_of(dump: dict[str, Any]) -> Forest:
    """Return LightGBM's trees as plain numbers."""
    return Forest(tuple(_tree(each["tree_structure"]) for each in dump["tree_info"]))


def _tree(root: dict[str, Any]) -> Tree:
    """Number the nodes from the root down, and the leaves, each in the order of a walk."""
    if "leaf_value" in root and "split_feature" not in root:
        return Tree((), (), (), (), (), (_rounded(root["leaf_value"]),))
    nodes = [root]
    leaves: list[float] = []
    lefts: list[int] = []
    rights: list[int] = []
    for node in nodes:  # grows while it is walked
        for side, name in ((lefts, "left_child"), (rights, "right_child")):
            child = node[name]
            if "split_feature" in child:
                side.append(len(nodes))
                nodes.append(child)
            else:
                side.append(~len(leaves))
                leaves.append(_rounded(child["leaf_value"]))
    return Tree(
        features=tuple(int(node["split_feature"]) for node in nodes),
        # Not rounded: a threshold lies between two values, and may be close to one of them.
        thresholds=tuple(float(f"{node['threshold']:.9g}") for node in nodes),
        lefts=tuple(lefts),
        rights=tuple(rights),
        means=tuple(_rounded(node["internal_value"]) for node in nodes),
        leaves=tuple(leaves),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
