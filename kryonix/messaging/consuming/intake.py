"""From a delivery to work: decoded, and claimed. What can't be handled, or was, is answered here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from kryonix.messaging.consuming.work import (
    FAILURES_HEADER,
    FIRST_EXCHANGE_HEADER,
    FIRST_KEY_HEADER,
    STORE,
    Source,
    Work,
)
from kryonix.messaging.encoding import Undecodable, decode
from kryonix.messaging.message import Envelope, Message, Route
from kryonix.messaging.transport import Delivery

__all__ = ["Intake"]

_BUSY: Final = 1.0

log = logging.getLogger("kryonix.messaging")


class Intake:
    """Takes a consumer's deliveries in."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.duplicates = 0
        self.undecodable = 0

    async def take(self, delivery: Delivery) -> Work | None:
        """Work, or None where there is nothing left to do."""
        envelope = delivery.envelope
        try:
            data = decode(envelope.body, envelope.content_type, envelope.content_encoding, self._source.max_bytes)
        except Undecodable as error:
            self.undecodable += 1
            log.warning("%s: message %s is a dead letter: %s", delivery.queue, envelope.message_id, error)
            await Work(self._source, delivery, self._message(delivery, None), None).reject(f"undecodable: {error}")
            return None
        message = self._message(delivery, data)
        store = self._source.idempotency
        if store is None or not message.message_id:
            return Work(self._source, delivery, message, None)
        return await self._claimed(delivery, message)

    async def _claimed(self, delivery: Delivery, message: Message) -> Work | None:
        # By action, not by queue: what comes back through another lane is the same message.
        key = f"{self._source.names.queue(message.route.module, message.route.action)}:{_storable(message.message_id)}"
        assert self._source.idempotency is not None  # noqa: S101 - the caller has looked
        try:
            async with asyncio.timeout(STORE):
                claim = await self._source.idempotency.claim(key, self._source.lease)
        except Exception:
            log.exception("message %s can't be claimed; it is given back", message.message_id)
            claim = "busy"
        if claim == "mine":
            return Work(self._source, delivery, message, key)
        if claim == "done":
            self.duplicates += 1
            await delivery.ack()
        else:
            if self._source.catalog.retry.strategy == "queues":
                # Such a broker delivers again at once, and would do nothing else until the claim ends.
                await asyncio.sleep(_BUSY)
            await delivery.give_back()
        return None

    def _message(self, delivery: Delivery, data: Any) -> Message:
        envelope, headers = delivery.envelope, delivery.envelope.headers
        return Message(
            data=data,
            message_id=envelope.message_id,
            attempt=1 + self._failures(headers),
            headers=headers,
            route=self._route(delivery.queue, envelope),
            priority=envelope.priority,
            sent_at=envelope.timestamp,
            application=envelope.app_id,
        )

    def _failures(self, headers: Mapping[str, Any]) -> int:
        counted = FAILURES_HEADER if self._source.catalog.retry.strategy == "queues" else "x-delivery-count"
        failures = headers.get(counted, 0)
        return failures if isinstance(failures, int) and failures > 0 else 0

    def _route(self, queue: str, envelope: Envelope) -> Route:
        return Route(
            module=self._source.module,
            action=self._source.action,
            queue=queue,
            exchange=str(envelope.headers.get(FIRST_EXCHANGE_HEADER, envelope.exchange)),
            routing_key=str(envelope.headers.get(FIRST_KEY_HEADER, envelope.routing_key)),
        )


def _storable(message_id: str) -> str:
    """An id that every store can hold: a foreign one may have a NUL in it, which PostgreSQL has no text for."""
    return message_id if message_id.isprintable() else message_id.encode("unicode_escape").decode()
