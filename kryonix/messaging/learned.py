"""The router that learned: decide by a model, watch it, and go back to the rules when it is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, get_args

from kryonix.messaging import metrics
from kryonix.messaging.checks import check_type, checked_seconds
from kryonix.messaging.encoding import encode
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.message import Outgoing
from kryonix.messaging.models import Fetched, source_of
from kryonix.messaging.outcomes.recorder import shapes_of
from kryonix.messaging.routing import Decision, Rules, expires_ms
from kryonix.routing.known import Known, draws, log_error
from kryonix.routing.modes import Mode
from kryonix.topology.catalog import default_catalog

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Consumed, Decided
    from kryonix.messaging.outcomes.table import Result
    from kryonix.routing.guard import Guard
    from kryonix.routing.learned import Choice, Decider, Learned
    from kryonix.routing.model import Model

log = logging.getLogger("kryonix.messaging")

_REMEMBERED: Final = 10_000
"""Decisions of one action that wait for their outcome."""
_TIMED: Final = 50
"""Decisions whose mean time is looked at."""
_SLOW_S: Final = 0.001
_GRACE_S: Final = 5.0
"""After its expiry a message that this client has not handled is missed."""
_PATIENCE_S: Final = 2.0
"""Time that `start` waits for a model. It is loaded in the background afterwards."""
_POLL_S: Final = 5.0

Route = tuple[str, str]


class Feedback(Protocol):
    """What became of messages, whoever consumed them: `PostgresOutcomes`."""

    async def results(self, tenant: str, version: str, since: float) -> tuple[list[Result], float]: ...


@dataclass(slots=True)
class Chosen:
    """A model's choice for one message, and whether it is obeyed."""

    choice: Choice
    who: Decided
    propensity: float
    version: str

    @property
    def obeyed(self) -> bool:
        return self.who == "learned"


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """What a router does now."""

    mode: Mode
    canary: float
    """Percent of the messages that a canary decides."""
    source: str
    version: str | None
    """The model's; None without one."""
    unusable: str | None
    """Why the source's present model is not used, or could not be read again."""
    problem: Mapping[str, str]
    """Actions that went back to the rules, and why."""
    decisions: Mapping[str, Mapping[str, int]]
    """By action: who decided how many messages, `rules`, `explored` or `learned`."""
    drifts: Mapping[str, Mapping[str, float]]
    """By action: the stability index of each feature at the last look."""


@dataclass(slots=True)
class _Pending:
    """A decision that waits for its outcome."""

    time: float
    expires_ms: float | None
    by_rules: bool


@dataclass(slots=True)
class _Action:
    """A model's part for one action, and what watches it."""

    route: Route
    decider: Decider
    guard: Guard
    problem: str | None = None
    pending: OrderedDict[str, _Pending] = field(default_factory=OrderedDict)
    deadlines: list[tuple[float, str]] = field(default_factory=list)
    timed: int = 0
    seconds: float = 0.0
    slow: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.route)

    def is_slow(self, seconds: float, most: float) -> str | None:
        """Count the time of a decision, and return what is wrong with it."""
        if seconds > most:
            return f"a decision took {seconds:.3f} s, longer than the router's timeout"
        self.timed += 1
        self.seconds += seconds
        if self.timed < _TIMED:
            return None
        mean, self.timed, self.seconds = self.seconds / self.timed, 0, 0.0
        # Twice: a machine may stop for a moment.
        was_slow, self.slow = self.slow, mean > _SLOW_S
        return f"its decisions take {mean * 1000:.1f} ms" if was_slow and self.slow else None

    def remember(self, known: Known, chosen: Chosen) -> None:
        expires = known.expires_ms
        self.pending[known.message_id] = _Pending(chosen.choice.prediction.time, expires, not chosen.obeyed)
        if expires is not None:
            heapq.heappush(self.deadlines, (known.at + expires / 1000, known.message_id))
        if len(self.pending) > _REMEMBERED:
            self.pending.popitem(last=False)
        if len(self.deadlines) > 2 * _REMEMBERED:
            self.deadlines = [each for each in self.deadlines if each[1] in self.pending]
            heapq.heapify(self.deadlines)

    def became(self, note: Consumed) -> bool:
        """Tell the guard what became of a remembered message; return True for such a one."""
        now = time.time()
        waiting = None if note.outcome == "retried" else self.pending.pop(note.message_id, None)
        if waiting is not None:
            missed = None
            if waiting.expires_ms is not None and note.waited_ms is not None:
                missed = note.waited_ms > waiting.expires_ms
            self.guard.became(log_error(note.handled_ms, waiting.time), missed, by_rules=waiting.by_rules)
        while self.deadlines and self.deadlines[0][0] + _GRACE_S < now:
            _, late = heapq.heappop(self.deadlines)
            if (gone := self.pending.pop(late, None)) is not None:
                self.guard.became(None, True, by_rules=gone.by_rules)
        return waiting is not None


class LearnedRouter:
    """Route by a model that `kryonix router train` has made, as far as its mode says.

    - `model`: a path, or an address `file://`, `https://` or `postgresql://` (the registry's; it gives the mode and
      the canary's share too). It is read again every `refresh` seconds; another version takes over at once.
    - `mode`: default `shadow`, or the registry's. `canary`: percent of the messages, default 10, or the registry's.
    - `feedback`: where other processes' consumers note what became of messages. Default: the client's `outcomes`, if
      they are in PostgreSQL.
    - `on_fallback`: is called with an action and a reason when that action goes back to the rules.

    Whatever is wrong with a model, messages are sent by the rules, and the log says so once. Raises ConfigurationError.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        mode: Mode | None = None,
        canary: float | None = None,
        refresh: float = 30.0,
        feedback: Feedback | None = None,
        on_fallback: Callable[[str, str], None] | None = None,
    ) -> None:
        check_type("model", model, str | Path)
        if mode is not None and mode not in get_args(Mode):
            problem = f"mode: {mode!r:.60} is not one of {', '.join(get_args(Mode))}"
            raise ConfigurationError(problem, remedy="Begin with shadow")
        if canary is not None and (
            isinstance(canary, bool) or not isinstance(canary, (int, float)) or not 0 <= canary <= 100
        ):
            problem = f"canary: {canary!r:.60} is not a share of the messages"
            raise ConfigurationError(problem, remedy="Pass percent, from 0 to 100")
        self._source = source_of(model)
        self._given = mode, canary
        self._mode: Mode = mode or "shadow"
        self._canary = 10.0 if canary is None else float(canary)
        self._refresh = checked_seconds("refresh", refresh)
        self._feedback, self._on_fallback = feedback, on_fallback
        self._timeout = 1.0
        self._tenant = ""
        """Whose messages it decides; empty until its first client."""
        self._actions: dict[Route, _Action] = {}
        self._content: bytes | None = None
        self._version: str | None = None
        self._unusable: str | None = None
        self._consumed: set[Route] = set()
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._decisions: Counter[tuple[Route, Decided]] = Counter()
        metrics.decisions.append(self._decisions)
        self._loaded = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._users = 0

    async def decide(self, message: Outgoing) -> Decision:
        """Decide as the client does, for a router of your own that asks this one."""
        rules = Rules(default_catalog())
        body, _ = encode(message.data, message.message_id or "")
        known = Known(
            message.module,
            message.action,
            time.time(),
            message.message_id or "",
            len(body),
            message.device,
            shapes_of(None, self._tenant).of(message.data),
            message.priority,
            expires_ms(message),
        )
        return self.route(message, self.choose(known), rules)

    def choose(self, known: Known) -> Chosen | None:
        """Return the choice for a message, or None if the rules decide. It never raises, and never waits."""
        route = known.module, known.action
        action, mode = self._actions.get(route), self._mode
        if action is None or action.problem is not None or mode == "off":
            self._decisions[route, "rules"] += 1
            return None
        began = time.perf_counter()
        try:
            choice = action.decider.choose(known)
            action.guard.decided(known, log_error(known.expires_ms, choice.prediction.left))
            chosen = self._followed(known, choice, mode)
            if route in self._consumed:
                action.remember(known, chosen)
            problem = action.guard.problem or action.is_slow(time.perf_counter() - began, self._timeout)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a model, the message is sent
            chosen, problem = None, f"it failed ({type(error).__name__}: {error})"
        if problem is not None:
            self._fall_back(action, problem)
            chosen = None
        self._decisions[route, "rules" if chosen is None else chosen.who] += 1
        return chosen

    def _followed(self, known: Known, choice: Choice, mode: Mode) -> Chosen:
        version = self._version or ""
        if mode == "shadow":
            return Chosen(choice, "rules", 1.0, version)
        share = self._canary / 100 if mode == "canary" else 1.0
        if share < 1 and draws(known.message_id)[1] >= share:
            return Chosen(choice, "rules", 1 - share, version)
        return Chosen(choice, "explored" if choice.explored else "learned", choice.propensity * share, version)

    def route(self, message: Outgoing, chosen: Chosen | None, rules: Rules) -> Decision:
        """Return the route of a message by a choice, or by the rules without one."""
        if chosen is None or chosen.who == "rules":
            return rules.apply(message)
        return rules.place(message, chosen.choice.priority, chosen.choice.reason)

    def forget(self, known: Known) -> None:
        """Expect no outcome of a message: it was not sent."""
        if (action := self._actions.get((known.module, known.action))) is not None:
            action.pending.pop(known.message_id, None)

    def _fall_back(self, action: _Action, problem: str) -> None:
        """Let the rules decide an action until another version of the model is loaded."""
        if action.problem is not None:
            return
        action.problem = problem
        action.pending.clear()
        action.deadlines.clear()
        extra = {"kryonix.event": "routing.fallback", "kryonix.action": action.name, "kryonix.version": self._version}
        log.warning("%s: back to the rules from model %s: %s", action.name, self._version, problem, extra=extra)
        metrics.fell_back(action.name)
        if self._on_fallback is not None:
            try:
                self._on_fallback(action.name, problem)
            except Exception:
                log.exception("on_fallback failed")

    def consumes(self, module: str, action: str) -> None:
        """Expect outcomes of an action from this client's own consumers."""
        self._consumed.add((module, action))

    def became(self, note: Consumed) -> None:
        """Learn what became of a message that this client's own consumer has handled."""
        action = self._actions.get((note.module, note.action))
        if action is None or action.problem is not None:
            return
        if action.became(note) and self._feedback is not None:
            self._counted[note.message_id] = None
            if len(self._counted) > 2 * _REMEMBERED:
                self._counted.popitem(last=False)
        if action.guard.problem is not None:
            self._fall_back(action, action.guard.problem)

    def status(self) -> RouterStatus:
        """Return what the router does now."""
        decisions: dict[str, dict[str, int]] = {}
        for (route, who), count in sorted(self._decisions.items()):
            decisions.setdefault(".".join(route), {})[who] = count
        actions = self._actions.values()
        return RouterStatus(
            mode=self._mode,
            canary=self._canary,
            source=self._source.shown,
            version=self._version,
            unusable=self._unusable,
            problem={each.name: each.problem for each in actions if each.problem is not None},
            decisions=decisions,
            drifts={each.name: dict(each.guard.drifts) for each in actions},
        )

    def serve(self, tenant: str) -> None:
        """Decide the messages of this tenant only: its outcomes are in the model. Raises ConfigurationError."""
        if self._tenant not in ("", tenant):
            problem = (
                f"router: it decides the messages of the tenant {self._tenant}, and can't decide those of {tenant}"
            )
            raise ConfigurationError(problem, remedy="Make a LearnedRouter for each tenant")
        self._tenant = tenant

    async def start(self, timeout: float, router_timeout: float, feedback: Feedback | None) -> None:
        """Load the model, for one more client. Wait for it `timeout` seconds at most, and not long."""
        self._timeout = router_timeout
        self._feedback = self._feedback or feedback
        self._users += 1
        if not self._tasks:
            self._loaded.clear()
            self._tasks = [asyncio.create_task(self._load(), name="kryonix routing model")]
            if self._feedback is not None:
                self._tasks.append(asyncio.create_task(self._listen(self._feedback), name="kryonix routing feedback"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, _PATIENCE_S)):
                await self._loaded.wait()

    async def close(self) -> None:
        """Load no more models, once the last client is closed."""
        self._users -= 1
        if self._users <= 0 and self._tasks:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
            await self._source.close()

    async def _load(self) -> None:
        while True:
            await self.refresh()
            self._loaded.set()
            await asyncio.sleep(self._refresh)

    async def refresh(self) -> None:
        """Look for another model or mode now."""
        from kryonix.routing.model import ModelRefused  # not earlier: most applications have no model

        try:
            fetched = await self._source.fetch(self._tenant)
            await self._take(fetched)
        except ModelRefused as error:
            self._actions, self._content, self._version = {}, None, None
            self._say(f"{error}; the rules decide")
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            meanwhile = "the rules decide" if self._version is None else f"model {self._version} stays"
            self._say(f"{self._source.shown}: cannot be read ({self._source.explain(error)}); {meanwhile}")
        else:
            self._unusable = None

    async def _take(self, fetched: Fetched) -> None:
        """Use a model and a mode. The same model keeps what is known of it. Raises ModelRefused."""
        from kryonix.routing.model import read_model

        if fetched.content is None:  # only together with the mode off
            self._actions, self._content, self._version = {}, None, None
        elif fetched.content != self._content:
            model = await asyncio.to_thread(read_model, fetched.content, self._source.shown)
            if model.version != self._version:
                self._actions = await asyncio.to_thread(_actions_of, model)
                self._version = model.version
                log.info("routing model %s for %d actions from %s", model.version, len(self._actions), fetched.name)
            self._content = fetched.content
        mode, canary = self._given
        self._canary = fetched.canary if canary is None else float(canary)
        self._mode = mode or fetched.mode

    def _say(self, problem: str) -> None:
        if problem != self._unusable:
            log.warning("routing model: %s", problem)
        self._unusable = problem

    async def _listen(self, feedback: Feedback) -> None:
        """Tell the guards what other processes' consumers have noted."""
        since, version = time.time(), self._version
        while True:
            await asyncio.sleep(_POLL_S)
            if version != self._version:
                since, version = time.time() - _POLL_S, self._version
            if version is None:
                continue
            try:
                results, since = await feedback.results(self._tenant, version, since)
            except Exception as error:  # noqa: BLE001 - a driver may raise anything
                log.debug("no feedback for the routing model: %s", type(error).__name__)
                continue
            if version == self._version:
                self._hear(results)

    def _hear(self, results: Sequence[Result]) -> None:
        for each in results:
            action = self._actions.get(each.route)
            if action is None or action.problem is not None or self._counted.pop(each.message_id, 0) is None:
                continue
            action.pending.pop(each.message_id, None)
            action.guard.became(log_error(each.handled_ms, each.time), each.missed, by_rules=each.by_rules)
            if action.guard.problem is not None:
                self._fall_back(action, action.guard.problem)


def _actions_of(model: Model) -> dict[Route, _Action]:
    return {_route(name): _action(_route(name), learned, model) for name, learned in model.actions.items()}


def _route(name: str) -> Route:
    module, _, action = name.partition(".")
    return module, action


def _action(route: Route, learned: Learned, model: Model) -> _Action:
    from kryonix.routing.guard import Guard
    from kryonix.routing.learned import Decider

    return _Action(route, Decider(learned, model.explore), Guard(learned.usual, learned.errors))
