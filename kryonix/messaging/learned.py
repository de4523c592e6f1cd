"""The router that learned: decide by a model, watch it, and go back to the rules when it is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from kryonix.messaging.supervised import REMEMBERED, Route, Supervised
from kryonix.routing.known import Known
from kryonix.routing.modes import Decided, Mode
from kryonix.topology.catalog import default_catalog

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Consumed
    from kryonix.messaging.outcomes.table import Result
    from kryonix.routing.learned import Choice
    from kryonix.routing.model import Model
    from kryonix.routing.shapes import Shapes

log = logging.getLogger("kryonix.messaging")

_PATIENCE_S: Final = 2.0
"""Time that `start` waits for a model. It is loaded in the background afterwards."""
_POLL_S: Final = 5.0


class Feedback(Protocol):
    """What became of messages, whoever consumed them: `PostgresOutcomes`."""

    async def results(self, tenant: str, version: str, since: float) -> tuple[list[Result], float]: ...


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
        self._refresh = checked_seconds("refresh", refresh)
        self._feedback, self._on_fallback = feedback, on_fallback
        self._timeout = 1.0
        self._shapes = shapes_of(None, "")
        self._tenant = ""
        """Whose messages it decides; empty until its first client."""
        self._actions: dict[Route, Supervised] = {}
        self._obey(mode or "shadow", 10.0 if canary is None else float(canary))
        self._content: bytes | None = None
        self._version: str | None = None
        self._unusable: str | None = None
        self._consumed: set[Route] = set()
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._decisions: defaultdict[Route, Counter[Decided]] = defaultdict(Counter)
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
            self._shapes.of(message.data),
            message.priority,
            expires_ms(message),
        )
        return self.route(message, self.choose(known), rules)

    def choose(self, known: Known) -> Choice | None:
        """Return the choice for a message, or None if the rules decide. It never raises, and never waits."""
        route = known.module, known.action
        action = self._actions.get(route)
        if action is not None and action.problem is None and self._mode != "off":
            choice = action.choose(known, self._timeout)
            if choice is not None:
                return choice
        self._decisions[route]["rules"] += 1
        return None

    def route(self, message: Outgoing, choice: Choice | None, rules: Rules) -> Decision:
        """Return the route of a message by a choice, or by the rules without one."""
        if choice is None or choice.who == "rules":
            return rules.apply(message)
        return rules.place(message, choice.priority, choice.reason)

    def forget(self, known: Known) -> None:
        """Expect no outcome of a message: it was not sent."""
        if (action := self._actions.get((known.module, known.action))) is not None:
            action.forget(known.message_id)

    def _ended(self, action: Supervised, problem: str) -> None:
        """Say that the rules decide an action until another version of the model is loaded."""
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
        if (supervised := self._actions.get((module, action))) is not None:
            supervised.remembers = True

    def became(self, note: Consumed) -> None:
        """Learn what became of a message that this client's own consumer has handled."""
        action = self._actions.get((note.module, note.action))
        if action is None or action.problem is not None:
            return
        if action.became(note) and self._feedback is not None:
            self._counted[note.message_id] = None
            if len(self._counted) > 2 * REMEMBERED:
                self._counted.popitem(last=False)

    def status(self) -> RouterStatus:
        """Return what the router does now."""
        actions = self._actions.values()
        return RouterStatus(
            mode=self._mode,
            canary=self._canary,
            source=self._source.shown,
            version=self._version,
            unusable=self._unusable,
            problem={each.name: each.problem for each in actions if each.problem is not None},
            decisions={".".join(route): dict(sorted(counts.items())) for route, counts in self._decisions.items()},
            drifts={each.name: dict(each.guard.drifts) for each in actions},
        )

    def serve(self, tenant: str, shapes: Shapes) -> None:
        """Decide the messages of this tenant only: its outcomes are in the model. Raises ConfigurationError."""
        if self._tenant not in ("", tenant):
            problem = (
                f"router: it decides the messages of the tenant {self._tenant}, and can't decide those of {tenant}"
            )
            raise ConfigurationError(problem, remedy="Make a LearnedRouter for each tenant")
        self._tenant, self._shapes = tenant, shapes

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
                self._actions = await asyncio.to_thread(self._supervised, model)
                for route in self._consumed & self._actions.keys():
                    self._actions[route].remembers = True
                self._version = model.version
                log.info("routing model %s for %d actions from %s", model.version, len(self._actions), fetched.name)
            self._content = fetched.content
        mode, canary = self._given
        self._obey(mode or fetched.mode, fetched.canary if canary is None else float(canary))

    def _obey(self, mode: Mode, canary: float) -> None:
        self._mode: Mode = mode
        self._canary = canary
        for action in self._actions.values():
            action.decider.decide_only({"on": 1.0, "canary": canary / 100}.get(mode, 0.0))

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
            action.hear(each)

    def _supervised(self, model: Model) -> dict[Route, Supervised]:
        from kryonix.routing.guard import Guard
        from kryonix.routing.learned import Decider

        found = {}
        for name, learned in model.actions.items():
            module, _, action = name.partition(".")
            route = module, action
            decider = Decider(learned, model.explore, model.version)
            guard = Guard(learned.usual, learned.errors)
            found[route] = Supervised(route, decider, guard, self._decisions[route], self._ended)
        return found
