"""From a subscription to work: deliveries wait for a worker, then are decoded and claimed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final, Literal

from kryonix.messaging.consuming.work import Source, Work, ask_store
from kryonix.messaging.encoding import Undecodable, decode, stated_encoding
from kryonix.messaging.idempotency import Claim, IdempotencyStore
from kryonix.messaging.message import Header, Message, Route, receive_time, shown_id
from kryonix.messaging.transport import ANSWER_WITHIN_S, Delivery, Subscription

_BUSY_S: Final = 1.0
_MAX_FAILURES: Final = 2**53
"""A counter that is larger was not counted."""

log = logging.getLogger("kryonix.messaging")


class Receiver:
    """Turn the deliveries of an action into work. Answer undecodable messages and duplicates.

    Prefetched deliveries wait in the order of priority, one queue per broker queue. One that is lost before a worker
    takes it is dropped: the broker delivers the message again.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: dict[str, deque[Delivery]] = {queue: deque() for queue in source.queues}
        self._filled = asyncio.Semaphore(0)
        self._cancelled = False
        self._subscription: Subscription | None = None
        self.duplicates = 0
        self.undecodable = 0

    async def open(self, prefetch: int, timeout: float, answer_within: float = ANSWER_WITHIN_S) -> None:
        """Subscribe. Raises NotConnected, NotRoutable or AccessRefused."""
        queues, put = self._source.queues, self._put
        self._subscription = await self._source.transport.subscribe(queues, prefetch, put, timeout, answer_within)

    def _put(self, delivery: Delivery) -> None:
        waiting = self._waiting[delivery.queue]
        while waiting and waiting[0].lost:
            waiting.popleft()
        waiting.append(delivery)
        self._filled.release()

    async def cancel(self) -> None:
        """Take no more deliveries, and give back those without a worker."""
        if self._subscription is not None:
            await self._subscription.cancel()
        self._cancelled = True
        self._filled.release()
        await asyncio.gather(*(delivery.give_back() for waiting in self._waiting.values() for delivery in waiting))

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.close()

    async def next(self) -> Work | None:
        """Return the next message to handle, or None at the end."""
        while (delivery := await self._take()) is not None:
            try:
                if (work := await self._receive(delivery)) is not None:
                    return work
            except Exception:
                # Answers never raise, and the store's errors are caught: a bug of ours must not cost a worker.
                shown = shown_id(delivery.envelope.message_id)
                log.exception("%s: message %s was not answered", delivery.queue, shown)
                await delivery.give_back()
            except asyncio.CancelledError:
                await asyncio.shield(delivery.give_back())
                raise
        return None

    async def _take(self) -> Delivery | None:
        """Return the next delivery, or None at the end."""
        while True:
            await self._filled.acquire()  # at least once for each delivery: some may be lost, and dropped
            if self._cancelled:
                self._filled.release()  # for the next taker
                return None
            for waiting in self._waiting.values():
                while waiting:
                    if not (delivery := waiting.popleft()).lost:
                        delivery.begin()
                        return delivery

    async def _receive(self, delivery: Delivery) -> Work | None:
        """Return the work, or None if the delivery has been answered already."""
        source, envelope = self._source, delivery.envelope
        try:
            encoding = stated_encoding(envelope.headers, envelope.content_encoding)
            data = decode(envelope.body, envelope.content_type, encoding, source.max_bytes, source.adapter)
        except Undecodable as error:
            self.undecodable += 1
            where, shown = source.dead_letter_queue, shown_id(envelope.message_id)
            log.warning("%s: message %s, now a dead letter in %s: %s", delivery.queue, shown, where, error)
            await Work(source, delivery, self._message(delivery, None), None).reject(f"undecodable: {error}")
            return None
        message = self._message(delivery, data)
        if source.idempotency is None or not message.message_id:
            return Work(source, delivery, message, None)
        # Another application's id may have what the store cannot hold: NUL, or letters beyond its encoding.
        escaped = message.message_id.encode("unicode_escape").decode()
        # By action, not by queue: a message that comes back through another lane is the same.
        key = f"{source.names.queue(source.module, source.action)}:{escaped}"
        claiming = self._claim(source.idempotency, key)
        claim = await ask_store(claiming, f"cannot claim message {message.message_id!r}; giving it back")
        if claim in ("mine", "never"):
            return Work(source, delivery, message, key if claim == "mine" else None)
        if claim == "done":
            self.duplicates += 1
            await delivery.ack()
            return None
        if source.catalog.retry.strategy == "queues":
            # Such a broker delivers again at once, in a busy loop until the claim ends.
            await asyncio.sleep(_BUSY_S)
        await delivery.give_back()
        return None

    async def _claim(self, store: IdempotencyStore, key: str) -> Claim | Literal["never"]:
        try:
            return await store.claim(key, self._source.lease)
        except UnicodeError as error:
            log.warning("%s cannot be stored, so the message may be handled twice: %s", key, error)
            return "never"

    def _message(self, delivery: Delivery, data: Any) -> Message:
        envelope, headers = delivery.envelope, delivery.envelope.headers
        counter = Header.FAILURES if self._source.catalog.retry.strategy == "queues" else "x-delivery-count"
        failures = headers.get(counter)
        exchange = _text_or(headers.get(Header.FIRST_EXCHANGE), envelope.exchange)
        return Message(
            data=data,
            message_id=envelope.message_id,
            attempt=1 + (failures if type(failures) is int and 0 < failures < _MAX_FAILURES else 0),
            headers=headers,
            route=Route(
                module=self._source.module,
                action=self._source.action,
                queue=delivery.queue,
                exchange=exchange,
                routing_key=_text_or(headers.get(Header.FIRST_KEY), envelope.routing_key),
            ),
            priority=envelope.priority,
            sent_at=envelope.timestamp,
            application=envelope.app_id,
            broadcast=exchange == self._source.names.automation_exchange,
            received_at=receive_time(headers),
        )


def _text_or(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
