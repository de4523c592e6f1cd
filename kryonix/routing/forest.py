"""Boosted trees as plain numbers, and their score in pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    def explain(self, row: Sequence[float], totals: list[float]) -> float:
        """Return the score, and add to each feature's total what it changes on the row's way down."""
        if not self.features:
            return self.leaves[0]
        features, thresholds, lefts, rights, means = (
            self.features,
            self.thresholds,
            self.lefts,
            self.rights,
            self.means,
        )
        node, before = 0, means[0]
        while True:
            feature = features[node]
            node = lefts[node] if row[feature] <= thresholds[node] else rights[node]
            now = means[node] if node >= 0 else self.leaves[~node]
            totals[feature] += now - before
            if node < 0:
                return now
            before = now


@dataclass(frozen=True, slots=True)
class Forest:
    """The sum of its trees."""

    trees: tuple[Tree, ...]

    def score(self, row: Sequence[float]) -> float:
        return sum([tree.score(row) for tree in self.trees])

    def explain(self, row: Sequence[float], features: int) -> tuple[float, list[float]]:
        """Return the score, and what each feature adds to it, against the average message."""
        totals = [0.0] * features
        return sum([tree.explain(row, totals) for tree in self.trees]), totals

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
