"""A handler at work: so many messages at a time, each within its time, stopped without losing one."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from kryonix.messaging.checks import checked_patience
from kryonix.messaging.consuming.inbox import Inbox
from kryonix.messaging.consuming.intake import Intake
from kryonix.messaging.consuming.work import Source, Work
from kryonix.messaging.errors import Reject, Retry
from kryonix.messaging.message import Message
from kryonix.messaging.tracing import failed, process_span
from kryonix.messaging.transport import Delivery, Subscription

__all__ = ["Consumer", "Handler"]

log = logging.getLogger("kryonix.messaging")

Handler = Callable[[Message], Awaitable[Any]]

DRAIN: Final = 30.0
_LAST_WORD: Final = 5.0
"""Seconds a cancelled handler has to clean up."""


class Consumer:
    """Runs a handler until it is stopped. Made by `MessagingClient.consume`."""

    def __init__(self, source: Source, handler: Handler, concurrency: int, handler_timeout: float | None) -> None:
        self._source, self._handler = source, handler
        self._concurrency, self._handler_timeout = concurrency, handler_timeout
        self._intake = Intake(source)
        self._inbox = Inbox(source.queues)
        self._workers: list[asyncio.Task[None]] = []
        self._subscription: Subscription | None = None
        self._busy = 0
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self.handled = 0
        self.retried = 0
        self.rejected = 0

    @property
    def route(self) -> str:
        return f"{self._source.module}.{self._source.action}"

    @property
    def stopped(self) -> bool:
        """Whether it has ended, with nothing in its hands."""
        return self._stopped.is_set()

    @property
    def duplicates(self) -> int:
        """Messages that were delivered again after they had been handled, and were not handled again."""
        return self._intake.duplicates

    @property
    def undecodable(self) -> int:
        return self._intake.undecodable

    @property
    def in_progress(self) -> int:
        """Messages in the handler's hands now."""
        return self._busy

    async def start(self, prefetch: int, answer_within: float, timeout: float) -> None:
        self._workers = [
            asyncio.create_task(self._work(), name=f"kryonix {self.route} {number}")
            for number in range(self._concurrency)
        ]
        try:
            transport = self._source.transport
            self._subscription = await transport.subscribe(
                self._source.queues, prefetch, self._inbox.put, timeout, answer_within
            )
        except BaseException:
            await self._end_workers()
            raise

    async def stop(self, timeout: float = DRAIN) -> None:
        """Take no more, let handlers finish for `timeout` seconds, and give back what is left.

        Called again it waits for the same end; the first caller's timeout holds.
        """
        timeout = checked_patience("timeout", timeout)
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(timeout), name=f"kryonix stop {self.route}")
        await asyncio.shield(self._stopping)

    async def _stop(self, timeout: float) -> None:
        if self._subscription is not None:
            await self._subscription.cancel()
        for delivery in self._inbox.close():
            await delivery.give_back()
        _, late = await asyncio.wait(self._workers, timeout=timeout)
        if late:
            log.warning(
                "%s: %d messages were not handled within %g s and are given back", self.route, len(late), timeout
            )
        await self._end_workers()
        if self._subscription is not None:
            await self._subscription.close()
        self._stopped.set()

    async def wait(self) -> None:
        """Until the consumer is stopped."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _end_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()
        _, deaf = await asyncio.wait(self._workers, timeout=_LAST_WORD)
        if deaf:
            # Their messages go back when the subscription is closed.
            log.error("%s: %d handlers do not let themselves be cancelled; they are left behind", self.route, len(deaf))

    async def _work(self) -> None:
        while (delivery := await self._inbox.get()) is not None:
            self._busy += 1
            try:
                await self._process(delivery)
            except Exception:
                # Answers never raise and handlers are caught: this is ours, and must not cost a worker.
                log.exception("%s: message %s was not answered", self.route, delivery.envelope.message_id)
                await delivery.give_back()
            except asyncio.CancelledError:
                # Not yet in the handler's hands, or answered already: then this does nothing.
                await asyncio.shield(delivery.give_back())
                raise
            finally:
                self._busy -= 1

    async def _process(self, delivery: Delivery) -> None:
        work = await self._intake.take(delivery)
        if work is None:
            return
        message = work.message
        with process_span(message.route.queue, message.message_id, message.attempt, message.headers) as span:
            try:
                async with asyncio.timeout(self._handler_timeout):
                    answer = self._handler(message)
                    if not inspect.isawaitable(answer):
                        raise TypeError(f"the handler returned {type(answer).__name__}: write it as `async def`")
                    await answer
            except Reject as rejection:
                failed(span, rejection)
                await self._reject(work, rejection)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    await asyncio.shield(work.give_back())
                    raise
                await self._retry(work, error)
            except Exception as error:  # noqa: BLE001 - any exception of a handler is a retry
                failed(span, error)
                await self._retry(work, error)
            else:
                await work.done()
                self.handled += 1

    async def _reject(self, work: Work, rejection: Reject) -> None:
        log.warning("%s: message %s is a dead letter: %s", self.route, work.message.message_id, rejection.reason)
        await work.reject(rejection.reason)
        self.rejected += 1

    async def _retry(self, work: Work, error: BaseException) -> None:
        message = work.message
        if isinstance(error, Retry):
            log.info(
                "%s: message %s asks for another attempt after %d", self.route, message.message_id, message.attempt
            )
        else:
            log.warning(
                "%s: attempt %d at message %s failed", self.route, message.attempt, message.message_id, exc_info=error
            )
        await work.retry()
        self.retried += 1
