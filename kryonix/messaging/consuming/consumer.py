"""Run a handler: a bounded number of messages at a time, each within its timeout, stopped without losing one."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from pydantic import TypeAdapter
from typing_extensions import TypeVar

from kryonix.messaging.checks import checked_patience
from kryonix.messaging.consuming.receiver import Receiver
from kryonix.messaging.consuming.work import Source, Work
from kryonix.messaging.errors import Reject, Retry
from kryonix.messaging.message import Message, shown_id
from kryonix.messaging.tracing import processing
from kryonix.messaging.transport import ANSWER_WITHIN_S

log = logging.getLogger("kryonix.messaging")

Data = TypeVar("Data", default=Any)
Handler = Callable[[Message[Data]], Awaitable[Any]]
Model = type[Data] | TypeAdapter[Data] | None
"""The type of the data; None for plain JSON."""

MAX_HANDLER_S: Final = 86_400.0
_MAX_ANSWER_S: Final = 5 * MAX_HANDLER_S
"""Enough for a handler of the longest kind behind one in each lane of its action."""
_OVERHEAD_S: Final = 30.0
"""Time for a message besides its handler: claim, remember, move."""
_CANCEL_S: Final = 5.0
"""Time for a cancelled handler to clean up."""


def plan_prefetch(prefetch: int, concurrency: int, queues: int, handler_timeout: float | None) -> tuple[int, float]:
    """Return the prefetch of each queue, and the seconds within which its last message is answered.

    The broker's own limit (30 minutes, or a policy's) does not know the handler: it takes messages back and delivers
    them again, for ever. So each consumer asks for the time it needs, and for no more messages than fit into it.
    Without a handler timeout that time is a day.
    """
    if handler_timeout is None:
        return prefetch, ANSWER_WITHIN_S
    each = handler_timeout + _OVERHEAD_S
    fitting = int(_MAX_ANSWER_S // each) * concurrency // queues
    prefetch = max(min(prefetch, fitting), 1)
    return prefetch, max(math.ceil(prefetch * queues / concurrency) * each, ANSWER_WITHIN_S)


class Consumer:
    """A running handler. Created by `MessagingClient.consume`."""

    def __init__(self, source: Source, handler: Handler, concurrency: int, handler_timeout: float | None) -> None:
        self._source, self._handler = source, handler
        self._concurrency, self._handler_timeout = concurrency, handler_timeout
        self._receiver = Receiver(source)
        self._workers: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self.handled = 0
        self.retried = 0
        self.rejected = 0
        self.in_progress = 0
        """Number of messages being handled now."""

    @property
    def route(self) -> str:
        return f"{self._source.module}.{self._source.action}"

    @property
    def stopped(self) -> bool:
        """True once the consumer has ended and holds no message."""
        return self._stopped.is_set()

    @property
    def duplicates(self) -> int:
        """Number of messages skipped because they had been handled before."""
        return self._receiver.duplicates

    @property
    def undecodable(self) -> int:
        """Number of messages that are unreadable or do not fit the model, now dead letters."""
        return self._receiver.undecodable

    async def start(self, prefetch: int, timeout: float) -> None:
        queues = len(self._source.queues)
        prefetch, within = plan_prefetch(prefetch, self._concurrency, queues, self._handler_timeout)
        self._workers = [
            asyncio.create_task(self._work(), name=f"kryonix {self.route} {number}")
            for number in range(self._concurrency)
        ]
        try:
            await self._receiver.open(prefetch, timeout, within)
        except BaseException:
            await self._end_workers()
            raise

    async def stop(self, timeout: float = 30.0) -> None:
        """Take no more messages, let handlers finish for `timeout` seconds, and give back the rest.

        A second call waits for the same end; the timeout of the first call applies.
        """
        timeout = checked_patience("timeout", timeout)
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(timeout), name=f"kryonix stop {self.route}")
        await asyncio.shield(self._stopping)

    async def _stop(self, timeout: float) -> None:
        await self._receiver.cancel()
        _, late = await asyncio.wait(self._workers, timeout=timeout)
        if late:
            log.warning("%s: giving back %d messages not handled within %g s", self.route, len(late), timeout)
        await self._end_workers()
        await self._receiver.close()
        self._stopped.set()

    async def wait(self) -> None:
        """Wait until the consumer is stopped."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _end_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()
        _, deaf = await asyncio.wait(self._workers, timeout=_CANCEL_S)
        if deaf:
            # Closing the subscription gives their messages back.
            log.error("%s: %d handlers ignore their cancellation and are left behind", self.route, len(deaf))

    async def _work(self) -> None:
        while (work := await self._receiver.next()) is not None:
            self.in_progress += 1
            try:
                await self._process(work)
            except Exception:
                # Answers never raise, and handlers are caught: this is a bug of ours, and must not cost a worker.
                log.exception("%s: message %s was not answered", self.route, shown_id(work.message.message_id))
                await work.give_back()
            except asyncio.CancelledError:
                # After the answer this does nothing.
                await asyncio.shield(work.give_back())
                raise
            finally:
                self.in_progress -= 1

    async def _process(self, work: Work) -> None:
        message = work.message
        work.begin()
        with processing(message, self._source.transport.server) as operation:
            try:
                async with asyncio.timeout(self._handler_timeout):
                    await self._handler(message)
            except Reject as rejection:
                operation.failed(rejection)
                log.warning(
                    "%s: message %s, now a dead letter in %s: %s",
                    self.route,
                    shown_id(message.message_id),
                    self._source.dead_letter_queue,
                    rejection.reason,
                )
                await work.reject(rejection.reason)
                self.rejected += 1
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                operation.failed(error)
                await self._retry(work, error)
            except Exception as error:  # noqa: BLE001 - any exception of a handler is a retry
                operation.failed(error)
                await self._retry(work, error)
            else:
                await work.done()
                self.handled += 1

    async def _retry(self, work: Work, error: BaseException) -> None:
        retry = isinstance(error, Retry)
        log.log(
            logging.INFO if retry and work.attempts_left else logging.WARNING,
            "%s: attempt %d at message %s %s; %s",
            self.route,
            work.message.attempt,
            shown_id(work.message.message_id),
            "asks for a retry" if retry else "failed",
            work.prospect,
            exc_info=None if retry else error,
        )
        await work.retry()
        self.retried += 1
