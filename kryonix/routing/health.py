"""How a model does on outcomes: drift, errors, and missed deadlines against the share of the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kryonix.routing.guard import Guard
from kryonix.routing.known import log_error
from kryonix.routing.learned import Decider, Errors, Learned
from kryonix.routing.model import Model
from kryonix.routing.outcomes import Outcome, by_action


@dataclass(frozen=True, slots=True)
class Health:
    """One action's part of a model, on outcomes. Errors are the means of logarithms; None where nothing is known."""

    action: str
    messages: int
    drifts: Mapping[str, float]
    """The stability index of each feature over the last messages."""
    error_time: float | None
    error_left: float | None
    usual: Errors
    """The errors in training."""
    missed: Mapping[str, float]
    """Share of missed deadlines by who decided: `learned`, `explored` (left to the rules) or `rules`."""
    problem: str | None
    """Why the model would have fallen back to the rules."""


def health(model: Model, outcomes: Iterable[Outcome]) -> list[Health]:
    """Return how each action of the model does that has outcomes."""
    found = by_action(outcomes)
    return [_health(name, model.actions[name], rows) for name, rows in found.items() if name in model.actions]


def watch(guard: Guard, decider: Decider, outcome: Outcome) -> tuple[float | None, float | None]:
    """Show a guard one outcome as the SDK does, and return the errors of the handling time and of the time left."""
    prediction = decider.predict(outcome.known)
    time = log_error(outcome.handled_ms, prediction.time)
    left = log_error(outcome.expires_ms, prediction.left)
    guard.decided([outcome.known])
    guard.stated(left)
    used = outcome.decision in ("learned", "explored")
    guard.became(time, outcome.missed if used else None, by_rules=outcome.decision == "explored")
    return time, left


def _health(action: str, learned: Learned, outcomes: Sequence[Outcome]) -> Health:
    guard, decider = Guard(learned.usual, learned.errors), Decider(learned, explore=0)
    lefts: list[float] = []
    times: list[float] = []
    missed: defaultdict[str, list[bool]] = defaultdict(list)
    for each in outcomes:
        time, left = watch(guard, decider, each)
        lefts += [] if left is None else [abs(left)]
        times += [] if time is None else [abs(time)]
        if each.missed is not None and each.decision is not None:
            missed[each.decision].append(each.missed)
    return Health(
        action=action,
        messages=len(outcomes),
        drifts=guard.drifts,
        error_time=_mean(times),
        error_left=_mean(lefts),
        usual=learned.errors,
        missed={name: sum(found) / len(found) for name, found in missed.items()},
        problem=guard.problem,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
