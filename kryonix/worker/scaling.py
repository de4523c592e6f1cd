"""The number of consumers for an action: a pure decision on figures, thresholds and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kryonix.topology.catalog import Scaling

Move = Literal["up", "down", "hold"]


@dataclass(frozen=True, slots=True)
class ScalingState:
    """An action's consumers, and the start of its current period of low depth (s, monotonic), if any."""

    consumers: int = 1
    low_since: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The move, its reason, and the state for the next decision."""

    move: Move
    reason: str
    state: ScalingState


def decide(state: ScalingState, depth: int | None, now: float, plan: Scaling, window: float) -> ScalingDecision:
    """Decide for one action. `depth` is ready and unacknowledged messages, or None if unreadable.

    Scale up at once, to one consumer per `scale_up_threshold` messages. Scale down by one consumer per decision, once
    the depth has been at or below `scale_down_threshold` for `window` seconds without a break. Otherwise hold: an
    unknown depth is neither high nor low, and breaks the window.
    """
    consumers = min(max(state.consumers, 1), plan.max_consumers_per_queue)
    if depth is None:
        return ScalingDecision("hold", "the figures are unreadable", ScalingState(consumers))
    wanted = min(-(-depth // plan.scale_up_threshold), plan.max_consumers_per_queue)
    if wanted > consumers:
        reason = f"depth {depth}: one consumer per {plan.scale_up_threshold}"
        return ScalingDecision("up", reason, ScalingState(wanted))
    if depth > plan.scale_down_threshold:
        return ScalingDecision("hold", f"depth {depth} is between the thresholds", ScalingState(consumers))
    since = now if state.low_since is None else state.low_since
    if consumers > 1 and now - since >= window:
        reason = f"depth {depth}: at most {plan.scale_down_threshold} for {now - since:.0f} s"
        return ScalingDecision("down", reason, ScalingState(consumers - 1, since))
    return ScalingDecision("hold", f"depth {depth} is low", ScalingState(consumers, since))
