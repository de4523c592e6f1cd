"""A message that the broker has handed out, and its one answer, also where its channel ends before that.

What was in hand when a channel ended is delivered again. Where that happens in this process, while the message is still
handled or after it was, the new delivery gets the answer of the handling that had begun: it is not begun twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

from aiormq.abc import AbstractChannel, DeliveredMessage

from kryonix.messaging.amqp.failures import BROKEN
from kryonix.messaging.message import Envelope

__all__ = ["AmqpDelivery", "Handout", "Unanswered"]

log = logging.getLogger("kryonix.messaging")

_ANSWER: Final = 5.0
"""Seconds after which an answer that can't be written is given up: its connection is dead."""
_REMEMBERED: Final = 600.0
"""Seconds for which an answer that could not be given is kept for the next delivery."""

_Answer = Literal["ack", "fail", "reject", "give back"]


class Handout:
    """What one channel has handed out and waits for."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel
        self.open: dict[int, AmqpDelivery] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether answers reach nobody any more: the channel is closed, or is going to be."""
        return self._ended or self.channel.is_closed

    def end(self) -> tuple[list[AmqpDelivery], int]:
        """What had been begun, and how many had not."""
        self._ended = True
        begun = [delivery for delivery in self.open.values() if delivery.begun]
        waiting = len(self.open) - len(begun)
        self.open.clear()
        return begun, waiting


class AmqpDelivery:
    """A message from the broker. The first answer counts: a second one would close the channel."""

    __slots__ = ("_answer", "_handout", "_message", "answered_at", "begun", "envelope", "queue")

    def __init__(self, message: DeliveredMessage, queue: str, handout: Handout) -> None:
        self._message, self.queue, self._handout = message, queue, handout
        self._answer: _Answer | None = None
        self.answered_at: float | None = None
        self.begun = False
        self.envelope = _envelope(message)
        handout.open[message.delivery_tag or 0] = self

    @property
    def lost(self) -> bool:
        return self._handout.ended

    @property
    def redelivered(self) -> bool:
        return bool(self._message.redelivered)

    def begin(self) -> None:
        self.begun = True

    async def ack(self) -> None:
        await self._decide("ack")

    async def reject(self, *, requeue: bool) -> None:
        await self._decide("fail" if requeue else "reject")

    async def give_back(self) -> None:
        await self._decide("give back")

    async def _decide(self, answer: _Answer) -> None:
        if self._answer is not None:
            return
        self._answer, self.answered_at = answer, time.monotonic()
        if not self.lost:
            await self._send(answer)
        elif answer != "give back":
            log.warning(
                "%s: the answer to message %s (%s) reaches nobody: its channel is gone. The broker delivers it again",
                self.queue,
                self.envelope.message_id,
                answer,
            )

    async def come_again(self, message: DeliveredMessage, handout: Handout) -> None:
        """Take over a new delivery of the same message: answer it, now or once the handling ends."""
        log.warning(
            "%s: message %s came again, and %s; it is not handled twice",
            self.queue,
            self.envelope.message_id,
            "is still handled" if self._answer is None else "was handled meanwhile",
        )
        self._message, self._handout = message, handout
        handout.open[message.delivery_tag or 0] = self
        if self._answer is not None:
            await self._send(self._answer)

    @property
    def given_back(self) -> bool:
        """Whether nobody has handled it after all."""
        return self._answer == "give back"

    async def _send(self, answer: _Answer) -> None:
        channel, tag = self._handout.channel, self._message.delivery_tag or 0
        self._handout.open.pop(tag, None)
        with contextlib.suppress(*BROKEN, TimeoutError):
            if not channel.write_queue.full():  # type: ignore[attr-defined]
                # Nothing to wait for, so no need of a deadline: this is the way of nearly every answer.
                await _write(channel, tag, answer)
                return
            async with asyncio.timeout(_ANSWER):
                await _write(channel, tag, answer)


async def _write(channel: AbstractChannel, tag: int, answer: _Answer) -> None:
    match answer:
        case "ack":
            await channel.basic_ack(tag, wait=False)
        case "give back":
            await channel.basic_nack(tag, requeue=True, wait=False)
        case _:
            # Not nack: the broker counts a reject as a failure, a nack it does not, and would deliver for ever.
            await channel.basic_reject(tag, requeue=answer == "fail", wait=False)


class Unanswered:
    """What was in hand when its channel ended, of all subscriptions of a client: any of them may get it again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], AmqpDelivery] = {}

    def keep(self, deliveries: Iterable[AmqpDelivery]) -> None:
        """Messages without an id are not kept: nobody could tell them from others that look the same."""
        oldest = time.monotonic() - _REMEMBERED
        self._kept = {
            key: each for key, each in self._kept.items() if each.answered_at is None or each.answered_at > oldest
        }
        for each in deliveries:
            if each.envelope.message_id:
                self._kept[each.queue, each.envelope.message_id] = each

    def find(self, delivery: AmqpDelivery) -> AmqpDelivery | None:
        """The delivery in hand of the same message, which is kept no longer."""
        key = (delivery.queue, delivery.envelope.message_id)
        kept = self._kept.get(key)
        if kept is None or not delivery.redelivered or not _same(kept.envelope, delivery.envelope):
            return None
        del self._kept[key]
        return None if kept.given_back else kept


def _same(one: Envelope, other: Envelope) -> bool:
    """Whether two envelopes are one message: all is equal but what the broker counts."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("body", "exchange", "routing_key", "timestamp", "app_id", "correlation_id")
    ) and _own(one.headers) == _own(other.headers)


def _own(headers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if not name.startswith("x-")}


def _envelope(message: DeliveredMessage) -> Envelope:
    properties = message.header.properties
    expiration = properties.expiration or ""
    return Envelope(
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        body=bytes(message.body),
        message_id=properties.message_id or "",
        headers=dict(properties.headers or {}),
        priority=properties.priority or 0,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        # A broker lets only digits in; what another one lets in must not leave the message unanswered.
        expiration=int(expiration) if expiration.isdecimal() else None,
        timestamp=properties.timestamp,
        app_id=properties.app_id,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        message_type=properties.message_type,
        received=True,
    )
