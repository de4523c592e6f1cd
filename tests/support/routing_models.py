"""Small routing models, made by hand: what they decide can be told without running them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from kryonix.routing.forest import Forest, Tree
from kryonix.routing.guard import Spread, Usual
from kryonix.routing.known import FEATURES, Known
from kryonix.routing.learned import Errors, Learned
from kryonix.routing.model import Model, write_model
from kryonix.routing.policy import Index, Policy

__all__ = ["LEVELS_MS", "URGENT", "known", "learned", "model", "model_file", "spread", "stump"]

URGENT: Final = "aaaaaaaaaaaaaaaa"
"""The shape that `learned` expects to be urgent: half a second is left; an hour for any other."""

LEVELS_MS: Final = (100, 1_000, 5_000, 20_000, 60_000, 300_000, 1_200_000, 7_200_000)
"""Times left between the priorities 9, 8, and so on down to 2."""


def known(**changed: Any) -> Known:
    """Return a message without an expiry or a priority, sent on Monday, 5 January 2026, 08:00 UTC."""
    usual = Known("crm", "leads.create", 1_767_600_000.0, "m-1", 2_000, "web", "b" * 16, None, None)
    return replace(usual, **changed)


def stump(feature: str, threshold: float, low: float, high: float) -> Tree:
    """Return a tree of one node: `low` up to the threshold, `high` above it."""
    low, high = float(low), float(high)
    return Tree((FEATURES.index(feature),), (float(threshold),), (-1,), (-2,), ((low + high) / 2,), (low, high))


def _constant(value: float) -> Forest:
    return Forest((Tree((), (), (), (), (), (value,)),))


def learned(
    *,
    time: Forest | None = None,
    left: Forest | None = None,
    policy: Policy | None = None,
    errors: Errors | None = None,
    spreads: Mapping[str, Spread] | None = None,
    saving: Forest | None = None,
) -> Learned:
    """Return what a model knows of an action whose messages differ by their shape only: URGENT or not."""
    hour = math.log(3_600_000)
    cut = (math.log(500) + hour) / 2
    return Learned(
        messages=5_000,
        shapes={URGENT: (math.log(100), math.log(500))},
        unknown=(math.log(100), hour),
        time=time or _constant(math.log(100)),
        left=left or Forest((stump("shape: left", cut, math.log(500), hour),)),
        policy=policy or Policy(Index(1.0, 0.0), tuple(math.log(each) for each in LEVELS_MS)),
        errors=errors or Errors(time=0.5, left=0.5),
        usual=Usual(spreads or {}),
        saving=saving,
    )


def model(actions: Mapping[str, Learned] | None = None, *, explore: float = 0.05) -> Model:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    return Model(at, at, at, 5_000, explore, actions or {"crm.leads.create": learned()}, {})


def model_file(messages: int = 1_000, tenants: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """Return the file of a model and its version: another one for other arguments."""
    return write_model(replace(model(), messages=messages, tenants=tenants))


def spread(messages: Sequence[Known], feature: str, edges: Sequence[float] = (), ordinary: float = 0.02) -> Spread:
    """Return how one feature of the messages is spread, by the edges or else by name."""
    values = [getattr(each, feature) for each in messages]
    names = () if edges else tuple(sorted(set(values)))
    bins = len(names) + 1 if names else len(edges) + 2
    empty = Spread(tuple(edges), names, (0.0,) * bins, ordinary)
    found = [empty.bin(value) for value in values]
    return replace(empty, shares=tuple(found.count(number) / len(found) for number in range(bins)))
