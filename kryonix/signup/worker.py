"""The worker process: run operations, publish events, and take over from dead workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import procrastinate
from procrastinate import BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.worker import Worker
from psycopg import AsyncConnection

from kryonix.engines.workspace import clear_abandoned
from kryonix.registry.connection import PINNED, given_settings
from kryonix.signup.database import QUERIES, Database, connection_settings
from kryonix.signup.events import EventPublisher
from kryonix.signup.executor import Executor, RetryLater
from kryonix.signup.housekeeping import Housekeeper
from kryonix.signup.intake import Intake
from kryonix.signup.operations import QUEUE, TASK
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells

log = logging.getLogger(__name__)

_HEARTBEAT_S: Final = 2
_STALLED_S: Final = 10
"""Seconds without a heartbeat after which a worker counts as dead and others take its jobs."""
_POLL_S: Final = 2
_AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A moment in the past by any clock: start the next attempt at once."""
_PAUSE_AFTER_FAILURE_S: Final = 3
_STOP_S: Final = 10
_ANSWER_S: Final = 30
"""Time limit of a statement, in seconds: longer than the web's, as no caller waits."""


class _Retry(BaseRetryStrategy):
    """Use the moment carried by RetryLater; retry any other failure at once, as it has paused already.

    Uses no clock of this machine: the database compares with its own.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        return RetryDecision(retry_at=exception.moment if isinstance(exception, RetryLater) else _AT_ONCE)


def run_worker(
    dsn: str,
    events_uri: str,
    lifecycle: TenantLifecycle,
    catalog: Catalog,
    cells: Cells,
    *,
    concurrency: int = 2,
    keep: timedelta = timedelta(days=400),
    alive_file: Path | None = None,
    ca_certificate: str = "",
    addresses: Sequence[str] = (),
    say: Callable[[str], None],
) -> None:
    """Work until SIGTERM or SIGINT, then finish running operations. The process ends soon after them, whatever hangs.

    `dsn` is the signup role's, `events_uri` the event publisher's. Ended operations are kept for `keep`. `alive_file`
    is touched while the worker runs, even if the database is away. `ca_certificate` is the CAs to trust (PEM) for the
    events; empty: the system's. `addresses` are those of the broker's nodes. `say` gets status lines.
    """
    for folder in clear_abandoned():
        log.warning("removed the folder %s of a killed run", folder)
    with Database(dsn, size=concurrency + 4, answer_s=_ANSWER_S) as database:
        worker = _Worker(dsn, database, lifecycle, concurrency, say)
        housekeeper = Housekeeper(database, lifecycle, Intake(database, catalog, cells), keep=keep)
        events = EventPublisher(database, events_uri, ca_certificate, addresses)
        asyncio.run(worker.run(housekeeper, events, alive_file))


async def _touch(file: Path | None) -> None:
    """Touch a file at intervals: an event loop that hangs lets it grow old."""
    while file is not None:
        file.touch()
        await asyncio.sleep(_HEARTBEAT_S)


_Attempt = tuple[int | None, int]


def _attempt(job: Job) -> _Attempt:
    return job.id, job.attempts


class _Worker:
    def __init__(
        self, dsn: str, database: Database, lifecycle: TenantLifecycle, concurrency: int, say: Callable[[str], None]
    ) -> None:
        self._app = procrastinate.App(
            connector=PsycopgConnector(
                conninfo=dsn,
                kwargs={**connection_settings(dsn, _ANSWER_S), **given_settings(dsn)},
                configure=_pin,
                min_size=1,
                max_size=concurrency + 3,
                timeout=_PAUSE_AFTER_FAILURE_S,
            )
        )
        self._database = database
        self._executor = Executor(database, lifecycle)
        self._concurrency = concurrency
        self._say = say
        self._open = False
        self._stop = asyncio.Event()
        self._worker: Worker | None = None
        self._run: asyncio.Task[None] | None = None
        self._running: set[_Attempt] = set()
        self._ended: dict[_Attempt, float] = {}
        self._app.task(name=TASK, queue=QUEUE, retry=_Retry(), pass_context=True)(self._run_job)

    def _run_job(self, context: JobContext, operation_id: str) -> None:
        attempt = _attempt(context.job)
        self._running.add(attempt)
        try:
            self._executor.run(UUID(operation_id))
        except RetryLater:
            raise
        except Exception:
            time.sleep(_PAUSE_AFTER_FAILURE_S)
            raise
        finally:
            self._ended[attempt] = time.monotonic()
            self._running.discard(attempt)

    async def run(self, housekeeper: Housekeeper, publisher: EventPublisher, alive_file: Path | None) -> None:
        """Run everything until a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        background = [
            asyncio.create_task(publisher.run()),
            asyncio.create_task(housekeeper.run(self._stalled)),
            asyncio.create_task(_touch(alive_file)),
        ]
        working = asyncio.create_task(self._work())
        await self._stop.wait()
        self._say("stopping: running operations are finished first")
        threading.Thread(target=self._leave, daemon=True).start()
        pending = {working, *background}
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)

    def _leave(self) -> None:
        """End the process when nothing has run for a while, whatever still waits: a task, a thread, or a pool."""
        idle_s = 0
        while idle_s < _STOP_S:
            time.sleep(1)
            idle_s = 0 if self._running else idle_s + 1
        log.warning("the database does not answer: stopping without it")
        logging.shutdown()
        os._exit(0)  # others notice the missing heartbeat

    async def _work(self) -> None:
        """Take jobs until the stop, waiting for a database that is away."""
        said = False
        while not self._stop.is_set():  # a database that is away turns the cancellation into an error
            try:
                await self._app.open_async()
                self._open = True
                if not said:
                    said = True
                    self._say(f"working, {self._concurrency} operation(s) at a time")
                self._worker = Worker(
                    self._app,
                    queues=[QUEUE],
                    concurrency=self._concurrency,
                    install_signal_handlers=False,
                    fetch_job_polling_interval=_POLL_S,
                    update_heartbeat_interval=_HEARTBEAT_S,
                    stalled_worker_timeout=_STALLED_S,
                    delete_jobs="successful",
                )
                self._run = asyncio.create_task(self._worker.run())  # type: ignore[no-untyped-call]  # not annotated by procrastinate
                await self._run
            except asyncio.CancelledError:
                if self._stop.is_set():
                    raise
            except (ConnectorException, OSError, ExceptionGroup) as error:
                log.warning("jobs wait: the database does not answer (%s)", type(error).__name__)
            finally:
                self._open = False
                await self._app.close_async()  # also when opening was cancelled: the pool's tasks ignore a cancellation
            await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _stalled(self) -> int:
        """Requeue the jobs of dead workers and unrecorded jobs of this one. Return their number."""
        if not self._open:
            return 0
        if self._run is not None and not await asyncio.to_thread(self._is_registered):
            log.warning("the database does not know this worker any more: it registers again after what it is doing")
            self._run.cancel()  # once: a second time would not wait for what runs
            self._run = None
        manager = self._app.job_manager
        stalled = await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=_STALLED_S)
        unrecorded = self._unrecorded(await manager.list_jobs_async(queue=QUEUE, status="doing"))
        again = {job.id: job for job in (*stalled, *unrecorded) if _attempt(job) not in self._running}
        for job in again.values():
            await manager.retry_job(job, retry_at=_AT_ONCE)  # the default is this machine's time
        return len(again)

    def _is_registered(self) -> bool:
        """Return True if the database has this worker with a new heartbeat. An outage may have cost it both."""
        if self._worker is None or self._worker.worker_id is None:
            return True  # it begins or ends
        values = {"id": self._worker.worker_id, "seconds": _STALLED_S}
        with self._database.transaction() as connection:
            return connection.execute(QUERIES["worker_alive"], values).fetchone() is not None

    def _unrecorded(self, doing: Iterable[Job]) -> list[Job]:
        """Return jobs that ended here a while ago and that the database, away at that moment, still has as running."""
        jobs = {_attempt(job): job for job in doing}
        before = time.monotonic() - _STALLED_S
        long_ended = [attempt for attempt, moment in list(self._ended.items()) if moment < before]
        for attempt in long_ended:
            if attempt not in jobs:  # recorded
                del self._ended[attempt]
        return [jobs[attempt] for attempt in long_ended if attempt in jobs]


async def _pin(connection: AsyncConnection[Any]) -> None:
    await connection.execute(PINNED)
    await connection.commit()
