"""Small models of routing: one prediction and one priority for every message of an action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from kryonix.routing.forest import Forest, Tree
from kryonix.routing.guard import Spread, Usual
from kryonix.routing.learned import Errors, Learned
from kryonix.routing.model import Model, write_model
from kryonix.routing.policy import HIGHEST, LEVELS, Index, Policy

__all__ = ["HANDLED_MS", "LEFT_MS", "learned_of", "model_file", "model_of", "only_device"]

HANDLED_MS, LEFT_MS = 10.0, 60_000.0
"""What these models predict."""
_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def learned_of(
    priority: int = HIGHEST,
    *,
    saving: float | None = None,
    usual: Usual | None = None,
    handled_ms: float = HANDLED_MS,
) -> Learned:
    """Return what is known of an action all of whose messages get one priority. `saving` is a share of the size."""
    above = HIGHEST - priority
    return Learned(
        messages=1_000,
        shapes={},
        unknown=(0.0, 0.0),
        time=_always(math.log(handled_ms)),
        left=_always(math.log(LEFT_MS)),
        policy=Policy(Index(0.0, 0.0), (*(-1.0,) * above, *(1.0,) * (LEVELS - above))),
        errors=Errors(time=0.5, left=5.0),
        usual=usual or Usual({}),
        saving=None if saving is None else _always(math.log(1 - saving)),
    )


def model_of(
    priority: int = HIGHEST,
    *,
    explore: float = 0.0,
    actions: Sequence[str] = ("crm.leads.create",),
    saving: float | None = None,
    usual: Usual | None = None,
    handled_ms: float = HANDLED_MS,
) -> Model:
    known = learned_of(priority, saving=saving, usual=usual, handled_ms=handled_ms)
    return Model(_DAY, _DAY, _DAY, 1_000, explore, dict.fromkeys(actions, known), {})


def model_file(model: Model) -> bytes:
    return write_model(model)[0]


def only_device(name: str) -> Usual:
    """Return training's messages that all came from one device."""
    return Usual({"device": Spread(edges=(), names=(name,), shares=(1.0, 0.0), ordinary=0.0)})


def _always(value: float) -> Forest:
    return Forest((Tree((), (), (), (), (), (value,)),))
