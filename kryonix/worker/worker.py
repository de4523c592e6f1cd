"""`kryonix worker`: run handlers, and scale the consumers of each action by its queue depth."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from kryonix.messaging import ConsumeOptions, Consumer, Handler, MessagingClient, MessagingError, Outcomes, QueueStats
from kryonix.messaging.configuration import Address
from kryonix.topology.catalog import Catalog, Scaling
from kryonix.worker.handlers import Handlers
from kryonix.worker.metrics import WorkerMetrics

log = logging.getLogger("kryonix.worker")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

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
        return ScalingDecision("up", f"depth {depth}: one consumer per {plan.scale_up_threshold}", ScalingState(wanted))
    if depth > plan.scale_down_threshold:
        return ScalingDecision("hold", f"depth {depth} is between the thresholds", ScalingState(consumers))
    since = now if state.low_since is None else state.low_since
    if consumers > 1 and now - since >= window:
        reason = f"depth {depth}: at most {plan.scale_down_threshold} for {now - since:.0f} s"
        return ScalingDecision("down", reason, ScalingState(consumers - 1, since))
    return ScalingDecision("hold", f"depth {depth} is low", ScalingState(consumers, since))


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How to scale, and the options of each consumer. Times are seconds."""

    scaling: Scaling
    interval: float
    """Time between two decisions."""
    window: float
    """Time of low depth before a consumer is ended."""
    drain: float
    """Time for handlers to finish when the consumer ends; then their messages are given back."""
    consume: ConsumeOptions


@dataclass(slots=True)
class ConsumerPool:
    """The consumers of one action, ended only after they have drained."""

    client: MessagingClient
    module: str
    action: str
    handler: Handler
    model: Any
    options: WorkerOptions
    state: ScalingState = ScalingState()
    consumers: list[Consumer] = field(default_factory=list)
    """Those taking messages."""
    draining: set[asyncio.Task[None]] = field(default_factory=set)
    """The ends of those only finishing their messages."""

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.client.tenant_id, self.module, self.action

    async def resize(self, wanted: int) -> None:
        """Start or end consumers. If one cannot be started, raise MessagingError and keep the others."""
        facade, options = self.client.module(self.module), self.options
        while len(self.consumers) < wanted:
            consumer = await facade.consume(self.action, self.handler, model=self.model, **options.consume)
            self.consumers.append(consumer)
        while len(self.consumers) > wanted:
            consumer = self.consumers.pop()
            task = asyncio.create_task(consumer.stop(options.drain), name=f"drain {consumer.route}")
            self.draining.add(task)
            task.add_done_callback(self.draining.discard)

    async def stop(self) -> None:
        """End all consumers, and wait for them."""
        await self.resize(0)
        await asyncio.gather(*self.draining)


class Worker:
    """Run one tenant's handlers until SIGTERM or SIGINT."""

    def __init__(
        self,
        address: Address,
        catalog: Catalog,
        handlers: Handlers,
        options: WorkerOptions,
        metrics: WorkerMetrics,
        outcomes: Outcomes | None = None,
    ) -> None:
        self._address, self._catalog, self._handlers = address, catalog, handlers
        self._options, self._metrics, self._outcomes = options, metrics, outcomes
        self._pools: list[ConsumerPool] = []

    async def run(self) -> None:
        """Work until a signal comes. Then take no more messages, finish the current ones, and disconnect."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(self._work())

        def stop() -> None:
            if not working.cancelling():  # a repeated signal must not interrupt the handlers
                working.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await working
        except asyncio.CancelledError:
            if not working.cancelled():
                raise
        finally:
            # From here on a signal ends the process at once, even if a handler ignores its cancellation.
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        log.info("stopped")

    async def _work(self) -> None:
        outcomes = self._outcomes
        if outcomes is not None:
            outcomes = replace(outcomes, sink=self._metrics.counted(self._address.tenant_id, outcomes.sink))
        client = await MessagingClient.connect_to(
            self._address, application="kryonix worker", catalog=self._catalog, outcomes=outcomes
        )
        async with client:
            try:
                await self._start(client)
                while True:
                    figures = await self._figures(client)
                    for pool in self._pools:
                        await self._scale(pool, figures.get((pool.module, pool.action)))
                        self._show(pool)
                    self._metrics.dropped(self._address.tenant_id, client.outcomes_dropped)
                    await asyncio.sleep(self._options.interval)
            finally:
                log.info("stopping: taking no more messages, finishing the current ones")
                await asyncio.gather(*(pool.stop() for pool in self._pools))

    async def _start(self, client: MessagingClient) -> None:
        for (module, action), (handler, model) in self._handlers.items():
            measured = self._metrics.measured((client.tenant_id, module, action), handler)
            pool = ConsumerPool(client, module, action, measured, model, self._options)
            self._pools.append(pool)
            await pool.resize(1)
            self._show(pool)
        actions = "1 action" if len(self._pools) == 1 else f"{len(self._pools)} actions"
        log.info("working as %s on %s", self._address.tenant_id, actions)

    def _show(self, pool: ConsumerPool) -> None:
        self._metrics.consumers.labels(*pool.labels).set(len(pool.consumers))
        self._metrics.draining.labels(*pool.labels).set(len(pool.draining))

    async def _figures(self, client: MessagingClient) -> Mapping[tuple[str, str], int]:
        """Return depths by action, or nothing if they are unreadable: then every action holds."""
        try:
            found = depths(await client.queue_stats(timeout=max(self._options.interval, 5.0)))
        except MessagingError as error:
            log.warning("holding: %s", error)
            self._metrics.readable.set(0)
            return {}
        self._metrics.readable.set(1)
        return found

    async def _scale(self, pool: ConsumerPool, depth: int | None) -> None:
        if depth is not None:
            self._metrics.depth.labels(*pool.labels).set(depth)
        size = len(pool.consumers)
        decision = decide(
            replace(pool.state, consumers=size), depth, time.monotonic(), self._options.scaling, self._options.window
        )
        pool.state = decision.state
        if decision.state.consumers == size:
            return
        route = f"{pool.module}.{pool.action}"
        try:
            await pool.resize(decision.state.consumers)
        except MessagingError as error:
            log.warning("%s stays at %d consumers: %s", route, len(pool.consumers), error)
            return
        self._metrics.moves.labels(*pool.labels, decision.move).inc()
        log.info("%s from %d to %d consumers: %s", route, size, len(pool.consumers), decision.reason)


def depths(stats: Sequence[QueueStats]) -> dict[tuple[str, str], int]:
    """Return ready and unacknowledged messages by action, lanes included: a consumer reads them all."""
    found = Counter[tuple[str, str]]()
    for queue in stats:
        if queue.kind in ("action", "lane") and queue.module is not None and queue.action is not None:
            found[queue.module, queue.action] += queue.depth
    return found
