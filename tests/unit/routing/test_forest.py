"""Trees as plain numbers."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kryonix.routing.forest import Explainer, Forest, Tree

TREE = Tree(
    features=(0, 1, 0),
    thresholds=(10.0, 5.0, 20.0),
    lefts=(1, -1, -3),
    rights=(2, -2, -4),
    means=(4.0, 2.0, 6.0),
    leaves=(1.0, 3.0, 5.0, 7.0),
)
"""Feature 0 up to 10: 1 or 3 by feature 1. Above: 5 or 7 by feature 0."""
LEAF = Tree((), (), (), (), (), (2.5,))


@pytest.mark.parametrize(
    ("row", "score"),
    [
        ((10.0, 5.0), 1.0),
        ((10.0, 5.1), 3.0),
        ((10.1, 0.0), 5.0),
        ((20.0, 9.0), 5.0),
        ((20.1, 9.0), 7.0),
    ],
)
def test_a_row_at_a_threshold_goes_left(row: tuple[float, float], score: float) -> None:
    assert TREE.score(row) == score


def test_the_score_of_a_forest_is_the_sum_of_its_trees() -> None:
    forest = Forest((TREE, LEAF, TREE))
    assert forest.score((0.0, 0.0)) == 1.0 + 2.5 + 1.0
    assert forest.mean == 4.0 + 2.5 + 4.0


@pytest.mark.parametrize("row", [(0.0, 0.0), (0.0, 9.0), (15.0, 0.0), (25.0, 0.0)])
def test_the_contributions_add_up_to_the_difference_from_the_mean(row: tuple[float, float]) -> None:
    forest = Forest((TREE, LEAF))
    score, parts = Explainer(forest, 2).explain(row)
    assert score == forest.score(row)
    assert forest.mean + sum(parts) == pytest.approx(score)


def test_a_contribution_belongs_to_the_feature_that_was_asked() -> None:
    _, parts = Explainer(Forest((TREE,)), 2).explain((0.0, 9.0))
    assert parts == [2.0 - 4.0, 3.0 - 2.0]


@pytest.mark.parametrize("trees", [(), (LEAF,), (LEAF, LEAF)])
def test_a_forest_without_nodes_explains_nothing(trees: tuple[Tree, ...]) -> None:
    assert Explainer(Forest(trees), 2).explain((0.0, 9.0)) == (2.5 * len(trees), [0.0, 0.0])


def chain(nodes: int) -> Tree:
    """Return a tree that asks one feature again and again, as deep as it has nodes."""
    return Tree(
        features=(0,) * nodes,
        thresholds=tuple(-float(node) for node in range(nodes)),
        lefts=(*range(1, nodes), -1),
        rights=tuple(~(node + 1) for node in range(nodes)),
        means=(0.0,) * nodes,
        leaves=tuple(float(leaf) for leaf in range(nodes + 1)),
    )


@pytest.mark.parametrize("nodes", [1, 7, 8, 15, 16, 31, 32, 63])
def test_trees_of_any_depth_are_explained_as_they_are_scored(nodes: int) -> None:
    forest = Forest((chain(nodes), TREE, chain(1)))
    forest.check(2)
    for value in range(-nodes - 1, 2):
        row = (value - 0.5, 0.0)
        assert Explainer(forest, 2).explain(row)[0] == forest.score(row)


def test_a_tree_of_too_many_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="64 at most"):
        Forest((chain(64),)).check(1)


def test_forests_of_any_form_are_explained_as_they_are_scored() -> None:
    random = Random(3)

    def grown(leaves: int) -> Tree:
        features, lefts, rights = list[int](), list[int](), list[int]()
        thresholds: list[float] = []
        numbers = iter(range(leaves))

        def grow(leaves: int) -> int:
            if leaves == 1:
                return ~next(numbers)
            node, left = len(features), random.randint(1, leaves - 1)
            features.append(random.randrange(3))
            thresholds.append(float(random.randrange(6)))
            lefts.append(0)
            rights.append(0)
            lefts[node], rights[node] = grow(left), grow(leaves - left)
            return node

        grow(leaves)
        means = tuple(random.random() for _ in features)
        scores = tuple(random.random() for _ in range(leaves))
        return Tree(tuple(features), tuple(thresholds), tuple(lefts), tuple(rights), means, scores)

    for _ in range(50):
        forest = Forest(tuple(grown(random.randint(1, 12)) for _ in range(random.randint(1, 9))))
        forest.check(3)
        explainer = Explainer(forest, 3)
        for _ in range(20):
            row = [random.choice((-1, 0, 0.5, 1, 2, 3, 4, 5, 9)) for _ in range(3)]
            score, parts = explainer.explain(row)
            assert score == forest.score(row)
            assert forest.mean + sum(parts) == pytest.approx(score)


def test_the_thresholds_are_those_of_one_feature() -> None:
    assert Forest((TREE, LEAF)).thresholds(0) == {10.0, 20.0}


UNSOUND: dict[str, dict[str, Any]] = {
    "a node leads to itself": {"lefts": (0, -1, -3)},
    "a cycle": {"lefts": (1, 0, -3)},
    "a child lies above its parent": {"lefts": (2, -1, -3), "rights": (1, -2, 1)},
    "two nodes share a child": {"lefts": (2, -1, -3), "rights": (2, -2, -4)},
    "two nodes share a leaf": {"rights": (2, -1, -4)},
    "a node that does not exist": {"rights": (7, -2, -4)},
    "a leaf that does not exist": {"rights": (2, -2, -9)},
    "a leaf too many": {"leaves": (1.0, 3.0, 5.0, 7.0, 9.0)},
    "a leaf too few": {"leaves": (1.0, 3.0, 5.0)},
    "a threshold too few": {"thresholds": (10.0, 5.0)},
    "a mean too few": {"means": (4.0, 2.0)},
    "a child too few": {"lefts": (1, -1)},
    "an unknown feature": {"features": (0, 2, 0)},
    "a feature below 0": {"features": (0, -1, 0)},
}


@pytest.mark.parametrize("changes", UNSOUND.values(), ids=UNSOUND)
def test_a_tree_that_does_not_lead_to_its_leaves_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tree 1 does not lead from its root to its leaves"):
        Forest((TREE, replace(TREE, **changes))).check(2)


@pytest.mark.parametrize("tree", [TREE, LEAF], ids=["three nodes", "one leaf"])
def test_a_sound_tree_is_accepted(tree: Tree) -> None:
    Forest((tree,)).check(2)


def test_a_tree_without_nodes_has_exactly_one_leaf() -> None:
    assert not replace(LEAF, leaves=()).is_sound(2)
    assert not replace(LEAF, leaves=(1.0, 2.0)).is_sound(2)
