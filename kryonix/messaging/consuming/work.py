"""One message in a consumer's hands, and the four ways it can end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Final

from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import Message
from kryonix.messaging.transport import Delivery, Transport
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = [
    "FAILURES_HEADER",
    "FIRST_EXCHANGE_HEADER",
    "FIRST_KEY_HEADER",
    "NOT_TAKEN_OVER",
    "REASON_HEADER",
    "STORE",
    "Source",
    "Work",
]

log = logging.getLogger("kryonix.messaging")

FAILURES_HEADER: Final = "kryonix-failures"
"""How often a message has failed, where retry queues count it and not the broker."""
REASON_HEADER: Final = "kryonix-reason"
"""Why a message is a dead letter."""
FIRST_EXCHANGE_HEADER: Final = "kryonix-exchange"
"""Where a message was published first, and with which key: what moves it back needs both."""
FIRST_KEY_HEADER: Final = "kryonix-routing-key"

NOT_TAKEN_OVER: Final = frozenset(
    {"CC", "BCC", "x-delivery-count", "x-acquired-count", "x-opt-rabbitmq-delivery-time", "x-delayed-until"}
)
"""Headers that the broker acts upon or counts in: a copy goes to one place only, and starts anew. Case matters."""

STORE: Final = 10.0
"""Seconds an idempotency store has to answer. One that hangs is one that is away."""
_PUBLISH: Final = 10.0
_LONGEST_REASON: Final = 1_000


@dataclass(frozen=True, slots=True)
class Source:
    """What a consumer consumes, and what it needs for it."""

    transport: Transport
    names: Names
    catalog: Catalog
    module: str
    action: str
    idempotency: IdempotencyStore | None
    lease: float
    """Seconds after which a claim on a message that was never answered is free again."""
    max_bytes: int

    @property
    def queues(self) -> tuple[str, ...]:
        """The lanes of the action, the highest priority first, and its own queue."""
        queue = self.names.queue(self.module, self.action)
        lanes = self.catalog.modules[self.module].priority_lanes.get(self.action, ())
        high = [lane for lane in lanes if lane == "high"]
        return (
            *(self.names.lane(self.module, self.action, lane) for lane in high),
            queue,
            *(self.names.lane(self.module, self.action, lane) for lane in lanes if lane not in high),
        )


class Work:
    """A message to be handled: exactly one of done, retry, reject and give_back ends it."""

    __slots__ = ("_delivery", "_key", "_source", "message", "settled")

    def __init__(self, source: Source, delivery: Delivery, message: Message, key: str | None) -> None:
        self._source, self._delivery, self._key = source, delivery, key
        self.message = message
        self.settled = False

    async def done(self) -> None:
        """Remember it, then answer: the other way round a crash in between would lose the memory."""
        self.settled = True
        if self._key is not None and self._source.idempotency is not None:
            try:
                async with asyncio.timeout(STORE):
                    await self._source.idempotency.done(self._key)
            except Exception:
                log.exception("message %s is handled, but can't be remembered as such", self.message.message_id)
        await self._delivery.ack()

    async def retry(self) -> None:
        """Count a failure. The broker delivers the message later, or makes it a dead letter after the last attempt."""
        self.settled = True
        await self._release()
        if self._source.catalog.retry.strategy == "queues":
            await self._retry_by_queue()
        else:
            await self._delivery.reject(requeue=True)

    async def _retry_by_queue(self) -> None:
        source, attempt = self._source, self.message.attempt
        if attempt > source.catalog.retry.limit:
            await self.reject(f"failed {attempt} times")
            return
        key = source.names.retry_key(self._delivery.queue, attempt)
        if await self._move(key, {FAILURES_HEADER: attempt}):
            await self._delivery.ack()
        else:
            await self._delivery.reject(requeue=True)

    async def reject(self, reason: str) -> None:
        """Make it a dead letter that says why."""
        self.settled = True
        await self._release()
        key = self._source.names.dead_letter_key(self._source.module, self._source.action)
        if await self._move(key, {REASON_HEADER: _writable(reason)}):
            await self._delivery.ack()
        else:
            # Without the reason, but at once and by the broker alone.
            await self._delivery.reject(requeue=False)

    async def give_back(self) -> None:
        """As if it had never been delivered."""
        self.settled = True
        await self._release()
        await self._delivery.give_back()

    async def _move(self, key: str, headers: dict[str, Any]) -> bool:
        """Publish a copy to the module's dead-letter exchange, confirmed before the original is answered."""
        source, envelope = self._source, self._delivery.envelope
        route = self.message.route
        origin = {FIRST_EXCHANGE_HEADER: route.exchange, FIRST_KEY_HEADER: self._key_that_led_here()}
        copy = replace(
            envelope,
            exchange=source.names.dead_letter_exchange(source.module),
            routing_key=key,
            headers={**_own(envelope.headers), **origin, **headers},
            expiration=None,
        )
        try:
            await source.transport.publish(copy, _PUBLISH)
        except Exception as error:  # noqa: BLE001 - whatever it is: the broker alone moves it then
            log.warning("message %s can't be moved to %s: %s", envelope.message_id, key, error)
            return False
        return True

    def _key_that_led_here(self) -> str:
        """Its routing key, or that of its CC by which it came to this action."""
        copies = self.message.headers.get("CC")
        keys = [self.message.route.routing_key, *(copies if isinstance(copies, list) else [])]
        here = f".{self._source.module}.{self._source.action}."
        return next((key for key in keys if isinstance(key, str) and here in f".{key}."), keys[0])

    async def _release(self) -> None:
        if self._key is None or self._source.idempotency is None:
            return
        try:
            async with asyncio.timeout(STORE):
                await self._source.idempotency.release(self._key)
        except Exception:
            log.exception("the claim on message %s can't be released; it ends by itself", self.message.message_id)


def _writable(reason: str) -> str:
    """A reason that a header takes; it may be half of a name in a file system that is not UTF-8."""
    return reason[:_LONGEST_REASON].encode(errors="backslashreplace").decode()


def _own(headers: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in headers.items() if key not in NOT_TAKEN_OVER}
