"""Boosted trees as plain numbers, and their score in pure Python."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Final

from kryonix.routing.numbers import Number

_WORDS: Final = ((8, "B"), (16, "H"), (32, "I"), (64, "Q"))
"""Numbers of bits, and their names in `struct`."""
_MOST_LEAVES: Final = 64


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
        """Return True if each way leads down to one of 64 leaves. Each leaf and node, but the root, has one parent."""
        nodes = len(self.features)
        if {len(self.thresholds), len(self.lefts), len(self.rights), len(self.means)} != {nodes}:
            return False
        children = sorted((*self.lefts, *self.rights))
        down = all(child < 0 or child > at for side in (self.lefts, self.rights) for at, child in enumerate(side))
        return (
            len(self.leaves) == nodes + 1 <= _MOST_LEAVES
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
                raise ValueError(f"tree {number} does not lead from its root to its leaves, {_MOST_LEAVES} at most")


class Explainer:
    """A forest in the form that is quick to explain.

    Each leaf is a bit. A row rules out the leaves to the left of each node whose threshold is below the row's value.
    The first that remains of each tree is the row's: Lucchese et al., "QuickScorer" (SIGIR 2015). With a leaf comes
    what the way to it has changed, by feature.
    """

    def __init__(self, forest: Forest, features: int) -> None:
        self._none: tuple[float, ...] = (0.0,) * (features + 1)
        largest = max([len(tree.leaves) for tree in forest.trees], default=1)
        bits, code = next((bits, code) for bits, code in _WORDS if bits >= largest)
        words = Struct(f"<{len(forest.trees)}{code}")
        self._size, self._unpack = words.size, words.unpack
        self._all = (1 << 8 * words.size) - 1
        self._leaves: list[dict[int, tuple[float, ...]]] = []
        found: dict[int, list[tuple[float, int]]] = {}
        for number, tree in enumerate(forest.trees):
            leaves, ruled_out = _unrolled(tree, features)
            self._leaves.append(leaves)
            for feature, threshold, out in ruled_out:
                found.setdefault(feature, []).append((threshold, out << number * bits))
        self._questions = [(feature, *self._masks(sorted(nodes))) for feature, nodes in found.items()]

    def _masks(self, nodes: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
        """Return a feature's thresholds, and the bits that remain if a value is above none of them, one, and so on."""
        masks = accumulate(nodes, lambda left, node: left & ~node[1], initial=self._all)
        return [threshold for threshold, _ in nodes], list(masks)

    def explain(self, row: Sequence[float]) -> tuple[float, list[float]]:
        """Return the forest's score, and what each feature adds to it, against the average message."""
        left = self._all
        for feature, thresholds, masks in self._questions:
            left &= masks[bisect_left(thresholds, row[feature])]
        words = self._unpack(left.to_bytes(self._size, "little"))
        leaves = [leaves[word & -word] for leaves, word in zip(self._leaves, words, strict=True)]
        score, *totals = [sum(column, 0.0) for column in zip(self._none, *leaves, strict=True)]
        return score, totals


def _unrolled(tree: Tree, features: int) -> tuple[dict[int, tuple[float, ...]], list[tuple[int, float, int]]]:
    """Return a tree's leaves by their bit, and each node's feature, threshold and the bits to its left.

    A leaf is its score, and what each feature adds to it. The bits are in the order of the leaves from left to right.
    """
    leaves: dict[int, tuple[float, ...]] = {}
    nodes: list[tuple[int, float, int]] = []

    def walk(node: int, way: Sequence[float]) -> int:
        """Return the bits below a node."""
        if node < 0:
            bit = 1 << len(leaves)
            leaves[bit] = (tree.leaves[~node], *way)
            return bit
        feature, below = tree.features[node], []
        for child in (tree.lefts[node], tree.rights[node]):
            step = (tree.means[child] if child >= 0 else tree.leaves[~child]) - tree.means[node]
            below.append(walk(child, [*way[:feature], way[feature] + step, *way[feature + 1 :]]))
        nodes.append((feature, tree.thresholds[node], below[0]))
        return below[0] | below[1]

    walk(0 if tree.features else ~0, [0.0] * features)
    return leaves, nodes
