"""How an action's messages are spread over each feature, and how far a window of them strays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from kryonix.routing.guard import STEP, WATCHED, WINDOW, Spread, Usual
from kryonix.routing.known import Known

_NAMES: Final = 20
_EDGES: Final = 8
_MARGIN: Final = 1.5
"""Bursts to come may be larger than those that were seen."""


def usual(known: Sequence[Known]) -> Usual:
    """Return the spread of each watched feature."""
    return Usual({name: _spread([getattr(each, name) for each in known]) for name in WATCHED})


def _spread(values: Sequence[Any]) -> Spread:
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    if any(isinstance(value, str) for value in values):
        names = tuple(name for name, _ in Counter(values).most_common(_NAMES))
    else:
        given = [value for value in values if value is not None]
        cuts = np.quantile(given, np.linspace(0, 1, _EDGES + 1)[1:-1]) if given else []
        edges = tuple(sorted({float(f"{cut:.6g}") for cut in cuts}))
    bins = len(names) + 1 if names else len(edges) + 2
    empty = Spread(edges, names, (0.0,) * bins, 0.0)
    placed = np.array([empty.bin(value) for value in values])
    shares = np.bincount(placed, minlength=bins) / len(values)
    spread = replace(empty, shares=tuple(float(f"{share:.6g}") for share in shares))
    windows = [
        spread.index(Counter(placed[begin : begin + WINDOW].tolist()))
        for begin in range(0, max(len(values) - WINDOW, 0) + 1, STEP)
    ]
    return replace(spread, ordinary=float(f"{_MARGIN * max(windows):.6g}"))
