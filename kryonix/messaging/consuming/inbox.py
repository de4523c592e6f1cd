"""From a subscription to work: deliveries wait for a worker, then are decoded and claimed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from kryonix.messaging.consuming.work import STORE, Source, Work
from kryonix.messaging.encoding import Undecodable, decode
from kryonix.messaging.message import FAILURES_HEADER, FIRST_EXCHANGE_HEADER, FIRST_KEY_HEADER, Message, Route
from kryonix.messaging.transport import Delivery

_BUSY_S: Final = 1.0

log = logging.getLogger("kryonix.messaging")


class Inbox:
    """The prefetched deliveries, one queue per broker queue, in the order of priority.

    A delivery lost before a worker takes it is dropped: the broker delivers the message again.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._waiting: dict[str, deque[Delivery]] = {queue: deque() for queue in queues}
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def put(self, delivery: Delivery) -> None:
        waiting = self._waiting[delivery.queue]
        while waiting and waiting[0].lost:
            waiting.popleft()
        waiting.append(delivery)
        self._wake()

    async def get(self) -> Delivery | None:
        """Return the next delivery, or None once the inbox is closed."""
        while True:
            for waiting in self._waiting.values():
                while waiting:
                    if not (delivery := waiting.popleft()).lost:
                        delivery.begin()
                        return delivery
            if self._closed:
                return None
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake()
                raise

    def close(self) -> list[Delivery]:
        """Stop handing out; return the deliveries not taken."""
        self._closed = True
        left = [delivery for waiting in self._waiting.values() for delivery in waiting]
        for waiting in self._waiting.values():
            waiting.clear()
        for taker in self._takers:
            if not taker.done():
                taker.set_result(None)
        return left

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return


class Receiver:
    """Turn a consumer's deliveries into work. Answer undecodable messages and duplicates."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.duplicates = 0
        self.undecodable = 0

    async def receive(self, delivery: Delivery) -> Work | None:
        """Return the work, or None if the delivery has been answered already."""
        envelope = delivery.envelope
        try:
            data = decode(envelope.body, envelope.content_type, envelope.content_encoding, self._source.max_bytes)
        except Undecodable as error:
            self.undecodable += 1
            log.warning("%s: message %s is a dead letter: %s", delivery.queue, envelope.message_id, error)
            await Work(self._source, delivery, self._message(delivery, None), None).reject(f"undecodable: {error}")
            return None
        message = self._message(delivery, data)
        if self._source.idempotency is None or not message.message_id:
            return Work(self._source, delivery, message, None)
        return await self._claimed(delivery, message)

    async def _claimed(self, delivery: Delivery, message: Message) -> Work | None:
        # By action, not by queue: a message that comes back through another lane is the same.
        key = f"{self._source.names.queue(message.route.module, message.route.action)}:{_storable(message.message_id)}"
        assert self._source.idempotency is not None  # noqa: S101 - checked by the caller
        try:
            async with asyncio.timeout(STORE):
                claim = await self._source.idempotency.claim(key, self._source.lease)
        except Exception:
            log.exception("cannot claim message %s; giving it back", message.message_id)
            claim = "busy"
        if claim == "mine":
            return Work(self._source, delivery, message, key)
        if claim == "done":
            self.duplicates += 1
            await delivery.ack()
        else:
            if self._source.catalog.retry.strategy == "queues":
                # Such a broker delivers again at once, in a busy loop until the claim ends.
                await asyncio.sleep(_BUSY_S)
            await delivery.give_back()
        return None

    def _message(self, delivery: Delivery, data: Any) -> Message:
        envelope, headers = delivery.envelope, delivery.envelope.headers
        counter = FAILURES_HEADER if self._source.catalog.retry.strategy == "queues" else "x-delivery-count"
        failures = headers.get(counter, 0)
        return Message(
            data=data,
            message_id=envelope.message_id,
            attempt=1 + (failures if isinstance(failures, int) and failures > 0 else 0),
            headers=headers,
            route=Route(
                module=self._source.module,
                action=self._source.action,
                queue=delivery.queue,
                exchange=str(headers.get(FIRST_EXCHANGE_HEADER, envelope.exchange)),
                routing_key=str(headers.get(FIRST_KEY_HEADER, envelope.routing_key)),
            ),
            priority=envelope.priority,
            sent_at=envelope.timestamp,
            application=envelope.app_id,
        )


def _storable(message_id: str) -> str:
    """Escape an id of another application: PostgreSQL cannot store a NUL."""
    return message_id if message_id.isprintable() else message_id.encode("unicode_escape").decode()
