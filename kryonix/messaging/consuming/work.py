"""One message being handled, and its four possible endings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import TypeAdapter

from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import CONTROL_HEADERS, Header, Message, shown_id
from kryonix.messaging.transport import Delivery, Transport
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Consumed
    from kryonix.routing.endings import Became

log = logging.getLogger("kryonix.messaging")

Result = TypeVar("Result")

STORE: Final = 10.0
"""Seconds for an answer of the idempotency store."""
_PUBLISH: Final = 10.0
_MAX_REASON: Final = 1_000


@dataclass(frozen=True, slots=True)
class Source:
    """The action to consume, with everything needed for it."""

    transport: Transport
    names: Names
    catalog: Catalog
    module: str
    action: str
    idempotency: IdempotencyStore | None
    lease: float
    """Seconds until the claim on an unanswered message ends."""
    max_bytes: int
    adapter: TypeAdapter[Any] | None = None
    """The type of the data, if it is not plain JSON."""
    note: Callable[[Consumed], None] | None = None
    """Takes a note of each attempt."""

    @property
    def dead_letter_queue(self) -> str:
        return self.names.dead_letter_queue(self.module, self.action)

    @property
    def queues(self) -> tuple[str, ...]:
        """The high lane of the action, its own queue, and its other lanes."""
        queue = self.names.queue(self.module, self.action)
        lanes = self.catalog.modules[self.module].priority_lanes.get(self.action, ())
        named = {lane: self.names.lane(self.module, self.action, lane) for lane in lanes}
        high = [named.pop("high")] if "high" in named else []
        return (*high, queue, *named.values())


class Work:
    """A message to handle. Call exactly one of done, retry, reject and give_back."""

    __slots__ = ("_delivery", "_key", "_source", "_started", "message", "settled")

    def __init__(self, source: Source, delivery: Delivery, message: Message, key: str | None) -> None:
        self._source, self._delivery, self._key = source, delivery, key
        self.message = message
        self.settled = False
        self._started: float | None = None

    def begin(self) -> None:
        """Start the time of the handler."""
        self._started = time.time()

    def _note(self, outcome: Became) -> None:
        """Note the attempt's end. A broadcast has several: one in each module."""
        source, message, started = self._source, self.message, self._started
        if source.note is None or message.broadcast or not message.message_id.isprintable() or not message.message_id:
            return
        from kryonix.messaging.outcomes.note import Consumed

        now, waited = time.time(), None
        since = message.received_at or message.sent_at
        if message.attempt == 1 and started is not None and since is not None:
            with suppress(ValueError, OverflowError, OSError):  # another application's time may be any
                waited = max(started - since.timestamp(), 0.0) * 1000
        source.note(
            Consumed(
                tenant=source.names.tenant_id,
                module=source.module,
                action=source.action,
                message_id=message.message_id,
                at=now,
                waited_ms=waited,
                handled_ms=None if started is None else max(now - started, 0.0) * 1000,
                attempts=message.attempt,
                outcome=outcome,
            )
        )

    @property
    def server(self) -> tuple[str, int] | None:
        return self._source.transport.server

    @property
    def attempts_left(self) -> int:
        """Number of attempts after this one."""
        return max(self._source.catalog.retry.limit + 1 - self.message.attempt, 0)

    @property
    def prospect(self) -> str:
        """What follows if this attempt fails, for the log."""
        if not (left := self.attempts_left):
            return f"now a dead letter in {self._source.dead_letter_queue}"
        delay = self._source.catalog.retry.delay(self.message.attempt) / 1000
        return f"again in {delay:g} s ({left} attempt{'s' * (left > 1)} left)"

    async def done(self) -> None:
        """Remember the message, then acknowledge it: in this order a crash in between loses nothing."""
        self.settled = True
        self._note("done")
        if self._key is not None and self._source.idempotency is not None:
            failure = f"message {self.message.message_id!r} is handled, but cannot be remembered"
            await ask_store(self._source.idempotency.done(self._key), failure)
        await self._delivery.ack()

    async def retry(self) -> None:
        """Count a failure. The broker delivers the message later, or makes it a dead letter after the last attempt."""
        self.settled = True
        self._note("retried" if self.attempts_left else "dead")
        await self._release()
        source, attempt = self._source, self.message.attempt
        if source.catalog.retry.strategy != "queues":
            await self._delivery.reject(requeue=True)
        elif attempt > source.catalog.retry.limit:
            await self._die(f"failed {attempt} times")
        else:
            key = source.names.retry_key(self._delivery.queue, attempt)
            await self._move(key, {Header.FAILURES: attempt}, requeue=True)

    async def reject(self, reason: str) -> None:
        """Make the message a dead letter with a reason."""
        self.settled = True
        self._note("dead")
        await self._release()
        await self._die(reason)

    async def _die(self, reason: str) -> None:
        key = self._source.names.dead_letter_key(self._source.module, self._source.action)
        # A reason may contain half of a name in a file system that is not UTF-8.
        writable = reason[:_MAX_REASON].encode(errors="backslashreplace").decode()
        noted = {Header.DIED: datetime.now(UTC), Header.ATTEMPTS: self.message.attempt}
        await self._move(key, {Header.REASON: writable, **noted}, requeue=False)

    async def give_back(self) -> None:
        """Return the message as if it had never been delivered. After another ending, do nothing."""
        if not self.settled:
            self.settled = True
            await self._release()
        await self._delivery.give_back()

    async def _move(self, key: str, headers: dict[str, Any], *, requeue: bool) -> None:
        """Publish a copy to the module's dead-letter exchange; once confirmed, acknowledge the original.

        If that fails, the broker moves the original, without the headers.
        """
        source, envelope = self._source, self._delivery.envelope
        route = self.message.route
        own = {name: value for name, value in envelope.headers.items() if name not in CONTROL_HEADERS}
        # The routing key, or the CC key, that leads to this action.
        copies = self.message.headers.get("CC")
        keys = [route.routing_key, *(copies if isinstance(copies, list) else [])]
        here = f".{source.module}.{source.action}."
        origin_key = next((each for each in keys if isinstance(each, str) and here in f".{each}."), keys[0])
        origin = {Header.FIRST_EXCHANGE: route.exchange, Header.FIRST_KEY: origin_key}
        copy = replace(
            envelope,
            exchange=source.names.dead_letter_exchange(source.module),
            routing_key=key,
            headers={**own, **origin, **headers},
            expiration=None,
        )
        try:
            await source.transport.publish(copy, _PUBLISH)
        except Exception as error:  # noqa: BLE001 - whatever it is, the broker can still move the original
            log.warning("cannot move message %s to %s: %s", shown_id(envelope.message_id), key, error)
            await self._delivery.reject(requeue=requeue)
        else:
            await self._delivery.ack()

    async def _release(self) -> None:
        if self._key is not None and self._source.idempotency is not None:
            failure = f"cannot release the claim on message {self.message.message_id!r}; it expires"
            await ask_store(self._source.idempotency.release(self._key), failure)


async def ask_store(asking: Awaitable[Result], failure: str) -> Result | None:
    """Return the idempotency store's answer, or None after an error or too long a wait."""
    try:
        async with asyncio.timeout(STORE):
            return await asking
    except Exception:
        log.exception(failure)
        return None
