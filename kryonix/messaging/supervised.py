"""One action under a model: its decisions, what is timed and remembered of them, and the end of the model's use."""

from __future__ import annotations

import heapq
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kryonix.routing.known import Known, log_error

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Consumed
    from kryonix.messaging.outcomes.table import Result
    from kryonix.routing.guard import Guard
    from kryonix.routing.learned import Choice, Decider
    from kryonix.routing.modes import Decided

REMEMBERED: Final = 10_000
"""Decisions of one action that wait for their outcome."""
_TOGETHER: Final = 50
"""Decisions that the guard is told of at once, the first of which is timed: one by one it costs several times more."""
_SLOW_S: Final = 0.001
"""Of the processor's time: a busy machine is no fault of the model."""
_SLOW_TIMES: Final = 5
"""So many in a row: garbage collection, for one, is no fault of the model either."""
_GRACE_S: Final = 5.0
"""After its expiry a message that this client has not handled is missed."""

Route = tuple[str, str]


@dataclass(slots=True)
class _Pending:
    """A decision that waits for its outcome."""

    time: float
    expires_ms: float | None
    by_rules: bool


class Supervised:
    """A model's part for one action. `ended` is called with its problem, once, when it is not to be used any more."""

    def __init__(
        self,
        route: Route,
        decider: Decider,
        guard: Guard,
        counts: Counter[Decided],
        ended: Callable[[Supervised, str], None],
    ) -> None:
        self.name = ".".join(route)
        self.problem: str | None = None
        self.remembers = False
        """True where this client's own consumers tell the outcomes."""
        self.guard, self.decider = guard, decider
        self._counts, self._ended = counts, ended
        self._taken: list[Known] = []
        self._slow = 0
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._deadlines: list[tuple[float, str]] = []

    def choose(self, known: Known, timeout: float) -> Choice | None:
        """Return the choice for a message; None if the model's use has ended."""
        try:
            if self._taken:
                choice = self.decider.choose(known)
            else:
                began = time.thread_time()
                choice = self.decider.choose(known)
                self._time(time.thread_time() - began, timeout)
            self._taken.append(choice.like)
            if known.expires_ms is not None:
                self.guard.stated(log_error(known.expires_ms, choice.prediction.left))
            if self.remembers:
                self._remember(known, choice)
            if len(self._taken) == _TOGETHER:
                self._look()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a model, the message is sent
            self._end(f"it failed ({type(error).__name__}: {error})")
        if self.problem is not None:
            return None
        self._counts[choice.who] += 1
        return choice

    def _time(self, seconds: float, timeout: float) -> None:
        if seconds > timeout:
            self._end(f"a decision took {seconds:.3f} s of the processor, longer than the router's timeout")
        self._slow = self._slow + 1 if seconds > _SLOW_S else 0
        if self._slow == _SLOW_TIMES:
            self._end(f"its decisions take {seconds * 1000:.1f} ms of the processor")

    def _look(self) -> None:
        taken, self._taken = self._taken, []
        self.guard.decided(taken)
        self._check()

    def _check(self) -> None:
        if self.guard.problem is not None:
            self._end(self.guard.problem)

    def _end(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem
            self._taken.clear()
            self._pending.clear()
            self._deadlines.clear()
            self._ended(self, problem)

    def _remember(self, known: Known, choice: Choice) -> None:
        expires = known.expires_ms
        self._pending[known.message_id] = _Pending(choice.prediction.time, expires, choice.who != "learned")
        if expires is not None:
            heapq.heappush(self._deadlines, (known.at + expires / 1000, known.message_id))
        if len(self._pending) > REMEMBERED:
            self._pending.popitem(last=False)
        if len(self._deadlines) > 2 * REMEMBERED:
            self._deadlines = [each for each in self._deadlines if each[1] in self._pending]
            heapq.heapify(self._deadlines)

    def forget(self, message_id: str) -> None:
        """Expect no outcome of a message."""
        self._pending.pop(message_id, None)

    def became(self, note: Consumed) -> bool:
        """Learn what became of a message. Return True if its decision was remembered."""
        now = time.time()
        waiting = None if note.outcome == "retried" else self._pending.pop(note.message_id, None)
        if waiting is not None:
            missed = None
            if waiting.expires_ms is not None and note.waited_ms is not None:
                missed = note.waited_ms > waiting.expires_ms
            self.guard.became(log_error(note.handled_ms, waiting.time), missed, by_rules=waiting.by_rules)
        while self._deadlines and self._deadlines[0][0] + _GRACE_S < now:
            _, late = heapq.heappop(self._deadlines)
            if (gone := self._pending.pop(late, None)) is not None:
                self.guard.became(None, True, by_rules=gone.by_rules)
        self._check()
        return waiting is not None

    def hear(self, result: Result) -> None:
        """Learn what became of a message that another process has handled."""
        self.forget(result.message_id)
        self.guard.became(log_error(result.handled_ms, result.time), result.missed, by_rules=result.by_rules)
        self._check()
