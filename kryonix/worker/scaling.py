"""How many consumers an action should have: a pure decision on figures, thresholds and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kryonix.topology.catalog import Scaling

__all__ = ["Decision", "Standing", "decide"]

Move = Literal["up", "down", "hold"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an action stands: its consumers, and since when (s, monotonic) its depth has been low, if it is."""

    consumers: int = 1
    low_since: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and what to remember until the next decision."""

    move: Move
    reason: str
    standing: Standing


def decide(standing: Standing, depth: int | None, now: float, plan: Scaling, window: float) -> Decision:
    """Decide for one action. `depth` is ready and unacked messages, None where that can't be read.

    One consumer per `scale_up_threshold` messages, at once. One consumer less per decision, once the depth has been at
    or below `scale_down_threshold` for `window` seconds without a break. In between, and without figures, nothing
    moves: unknown is neither deep nor empty, so it also breaks the window.
    """
    consumers = min(max(standing.consumers, 1), plan.max_consumers_per_queue)
    if depth is None:
        return Decision("hold", "the figures can't be read", Standing(consumers))
    wanted = min(-(-depth // plan.scale_up_threshold), plan.max_consumers_per_queue)
    if wanted > consumers:
        return Decision("up", f"depth {depth}: one consumer per {plan.scale_up_threshold}", Standing(wanted))
    if depth > plan.scale_down_threshold:
        return Decision("hold", f"depth {depth} is between the thresholds", Standing(consumers))
    since = now if standing.low_since is None else standing.low_since
    if consumers > 1 and now - since >= window:
        reason = f"depth {depth}: at most {plan.scale_down_threshold} for {now - since:.0f} s"
        return Decision("down", reason, Standing(consumers - 1, since))
    return Decision("hold", f"depth {depth} is low", Standing(consumers, since))
