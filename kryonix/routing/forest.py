"""Boosted trees as plain numbers, and their score in pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kryonix.routing.numbers import Number


@dataclass(frozen=True, slots=True)
class Tree:
    """A decision tree. Node 0 is the root; a child below 0 is the leaf `~child`.

    A node sends a row to the left if the row's feature is at most the threshold. `means` is what a tree would answer
    if it ended at the node: the steps from one to the next are what each feature contributes.
    """

    features: tuple[int, ...]
    thresholds: tuple[Number, ...]
    lefts: tuple[int, ...]
    rights: tuple[int, ...]
    means: tuple[Number, ...]
    leaves: tuple[Number, ...]

    def is_sound(self, features: int) -> bool:
        """Return True if every way leads down to a leaf. Each node but the root, and each leaf, has one parent."""
        nodes = len(self.features)
        if {len(self.thresholds), len(self.lefts), len(self.rights), len(self.means)} != {nodes}:
            return False
        children = sorted((*self.lefts, *self.rights))
        down = all(child < 0 or child > at for side in (self.lefts, self.rights) for at, child in enumerate(side))
        return (
            len(self.leaves) == nodes + 1
            and children == ([*range(-nodes - 1, 0), *range(1, nodes)] if nodes else [])
            and down
            and all(0 <= feature < features for feature in self.features)
        )

    def score(self, row: Sequence[float]) -> float:
        if not self.features:
            return self.leaves[0]
        features, thresholds, lefts, rights = self.features, self.thresholds, self.lefts, self.rights
        node = 0
        while node >= 0:
            node = lefts[node] if row[features[node]] <= thresholds[node] else rights[node]
        return self.leaves[~node]


@dataclass(frozen=True, slots=True)
class Forest:
    """The sum of its trees."""

    trees: tuple[Tree, ...]

    def score(self, row: Sequence[float]) -> float:
        return sum([tree.score(row) for tree in self.trees])

    def thresholds(self, feature: int) -> set[float]:
        """Return all values at which the score may change with a feature."""
        return {
            threshold
            for tree in self.trees
            for at, threshold in zip(tree.features, tree.thresholds, strict=True)
            if at == feature
        }

    @property
    def mean(self) -> float:
        """What it answers for the average message."""
        return sum([tree.means[0] if tree.means else tree.leaves[0] for tree in self.trees])

    def check(self, features: int) -> None:
        """Raise ValueError if a row of so many features can't be scored."""
        for number, tree in enumerate(self.trees):
            if not tree.is_sound(features):
                raise ValueError(f"tree {number} does not lead from its root to its leaves")


class Explainer:
    """A forest in the form that is quick to explain: at each leaf what the way to it has changed, by feature."""

    def __init__(self, forest: Forest, features: int) -> None:
        self._none: tuple[float, ...] = (0.0,) * (features + 1)
        self._roots = [_unrolled(tree, features) for tree in forest.trees]

    def explain(self, row: Sequence[float]) -> tuple[float, list[float]]:
        """Return the forest's score, and what each feature adds to it, against the average message."""
        leaves = [self._none]
        for feature, threshold, left, right in self._roots:
            while feature >= 0:
                feature, threshold, left, right = left if row[feature] <= threshold else right
            leaves.append(threshold)
        score, *totals = [sum(column, 0.0) for column in zip(*leaves, strict=True)]
        return score, totals


def _unrolled(tree: Tree, features: int) -> tuple[int, Any, Any, Any]:
    """Return a node as feature, threshold, left and right; a leaf as -1, its score and contributions, and nothing."""
    if not tree.features:
        return -1, (tree.leaves[0], *[0.0] * features), None, None
    ways: dict[int, list[float]] = {0: [0.0] * features}
    made: dict[int, tuple[int, Any, Any, Any]] = {}
    for node, feature in enumerate(tree.features):  # a child has a higher number than its parent
        for child in (tree.lefts[node], tree.rights[node]):
            way = ways[child] = ways[node].copy()
            way[feature] += (tree.means[child] if child >= 0 else tree.leaves[~child]) - tree.means[node]
            if child < 0:
                made[child] = (-1, (tree.leaves[~child], *way), None, None)
    for node in reversed(range(len(tree.features))):
        made[node] = (tree.features[node], tree.thresholds[node], made[tree.lefts[node]], made[tree.rights[node]])
    return made[0]
