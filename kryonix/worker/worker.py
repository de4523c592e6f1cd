"""`kryonix worker`: runs handlers, and has as many consumers of each action as its depth asks for."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kryonix.messaging import MessagingClient, MessagingError, QueueStats
from kryonix.messaging.configuration import Address
from kryonix.topology.catalog import Catalog, Scaling
from kryonix.worker.handlers import Handlers
from kryonix.worker.metrics import WorkerMetrics
from kryonix.worker.pool import ConsumerOptions, Crew
from kryonix.worker.scaling import Standing, decide

__all__ = ["Worker", "WorkerOptions", "depths"]

log = logging.getLogger("kryonix.worker")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker scales, in seconds, and what its consumers are like."""

    scaling: Scaling
    interval: float
    """Between two decisions."""
    window: float
    """How long a queue must have been low before a consumer is ended."""
    consumers: ConsumerOptions


class Worker:
    """One tenant's handlers at work, until SIGTERM or SIGINT."""

    def __init__(
        self, address: Address, catalog: Catalog, handlers: Handlers, options: WorkerOptions, metrics: WorkerMetrics
    ) -> None:
        self._address, self._catalog, self._handlers = address, catalog, handlers
        self._options, self._metrics = options, metrics
        self._crews: list[Crew] = []
        self._standings: dict[tuple[str, str], Standing] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until a signal comes; then take no more, finish what is begun, and disconnect."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        client = await MessagingClient.connect(
            self._address.uri(),
            application="kryonix worker",
            management_url=self._address.management_url,
            catalog=self._catalog,
        )
        async with client:
            try:
                await self._start(client)
                while not self._stopping.is_set():
                    await self._scale(client)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._options.interval):
                            await self._stopping.wait()
            finally:
                log.info("stopping: no more messages are taken, those begun are finished")
                await asyncio.gather(*(crew.stop() for crew in self._crews))
        log.info("stopped")

    async def _start(self, client: MessagingClient) -> None:
        for (module, action), handler in self._handlers.items():
            measured = self._metrics.measured(module, action, handler)
            crew = Crew(client, module, action, measured, self._options.consumers)
            self._crews.append(crew)
            await crew.resize(1)
            self._metrics.stand(module, action, crew.size, crew.draining)
        log.info("working as %s on %d actions", self._address.tenant_id, len(self._crews))

    async def _scale(self, client: MessagingClient) -> None:
        figures = await self._figures(client)
        for crew in self._crews:
            await self._settle(crew, figures.get((crew.module, crew.action)))
            self._metrics.stand(crew.module, crew.action, crew.size, crew.draining)

    async def _figures(self, client: MessagingClient) -> Mapping[tuple[str, str], int]:
        """Depths by action; none at all where they can't be read, so that everything holds."""
        try:
            found = depths(await client.queue_stats(timeout=max(self._options.interval, 5.0)))
        except MessagingError as error:
            log.warning("holding: %s", error)
            self._metrics.read(False)
            return {}
        self._metrics.read(True)
        return found

    async def _settle(self, crew: Crew, depth: int | None) -> None:
        key = (crew.module, crew.action)
        if depth is not None:
            self._metrics.deep(*key, depth)
        before = replace(self._standings.get(key, Standing()), consumers=crew.size)
        decision = decide(before, depth, time.monotonic(), self._options.scaling, self._options.window)
        self._standings[key] = decision.standing
        if decision.standing.consumers == crew.size:
            return
        try:
            await crew.resize(decision.standing.consumers)
        except MessagingError as error:
            log.warning("%s.%s stays at %d consumers: %s", *key, crew.size, error)
            return
        self._metrics.moved(*key, decision.move)
        log.info("%s.%s from %d to %d consumers: %s", *key, before.consumers, crew.size, decision.reason)


def depths(stats: Sequence[QueueStats]) -> dict[tuple[str, str], int]:
    """Ready and unacked messages by action. A consumer reads all lanes of its action: they count together."""
    found: dict[tuple[str, str], int] = {}
    for queue in stats:
        if queue.kind in ("action", "lane") and queue.module is not None and queue.action is not None:
            key = (queue.module, queue.action)
            found[key] = found.get(key, 0) + queue.depth
    return found
