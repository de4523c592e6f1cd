"""A model in use: it decides a world's messages until its guard ends that, and the rules decide from then on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kryonix.routing.guard import Guard
from kryonix.routing.known import rules_priority
from kryonix.routing.learned import Choice, Decider, Learned
from tests.support.worlds import Played, World, by_rules, live, missed, play

__all__ = ["Guarded"]


@dataclass(frozen=True, slots=True)
class Use:
    """How a model did in a world, against the rules in the same."""

    missed: int
    missed_by_rules: int
    stopped_after: int | None
    """Messages until the rules decided again; None if the model was used to the end."""
    problem: str | None

    @property
    def loss(self) -> float:
        """Deadlines that were missed because of the model, of those that the rules miss."""
        return (self.missed - self.missed_by_rules) / self.missed_by_rules


class Guarded:
    """One action's model, its guard, and what they remember from world to world."""

    def __init__(self, learned: Learned, explore: float = 0.01) -> None:
        self._decider = Decider(learned, explore)
        self._guard = Guard(learned.usual, learned.errors)

    def use(self, world: World) -> Use:
        choices: dict[int, Choice] = {}
        stopped: list[int] = []

        def decide(number: int) -> int:
            known = world.messages[number].known
            if self._guard.problem is not None:
                stopped.append(number)
                return rules_priority(known.priority, known.expires_ms)
            choice = choices[number] = self._decider.choose(known)
            self._guard.decided([known])
            if known.expires_ms is not None:
                self._guard.stated(math.log(max(known.expires_ms, 1)) - choice.prediction.left)
            return choice.priority

        def became(number: int, one: Played) -> None:
            if (choice := choices.pop(number, None)) is not None:
                sent = world.messages[number]
                error = None if one.expired else math.log(max(sent.handled_ms, 1)) - choice.prediction.time
                self._guard.became(error, one.expired if sent.stated else None, by_rules=choice.who == "explored")

        found = live(world, decide, became)
        rules = play(world, by_rules(world))
        return Use(missed(world, found), missed(world, rules), stopped[0] if stopped else None, self._guard.problem)
