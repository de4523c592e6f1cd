"""A message delivered by the broker and its single answer, even if its channel ends before that.

The broker delivers a message again if its channel ends during the handling. If this process gets it again, the new
delivery takes the answer of the running or finished handling: the message is not handled twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

from kryonix.messaging.amqp.deliveries import DeliveryChannel
from kryonix.messaging.message import Envelope

log = logging.getLogger("kryonix.messaging")

_REMEMBERED_S: Final = 600.0
"""Time to keep an unsent answer for the next delivery."""

_Answer = Literal["ack", "fail", "reject", "give back"]


class Handout:
    """The unanswered deliveries of one channel."""

    def __init__(self, channel: DeliveryChannel) -> None:
        self.channel = channel
        self.open: dict[int, AmqpDelivery] = {}
        self.interrupted = False

    @property
    def ended(self) -> bool:
        """True if the channel is closed or closing: answers no longer arrive."""
        return self.interrupted or self.channel.ended

    def end(self) -> tuple[list[AmqpDelivery], int]:
        """Return the deliveries being handled, and the number of the others."""
        self.interrupted = True
        begun = [delivery for delivery in self.open.values() if delivery.begun]
        waiting = len(self.open) - len(begun)
        self.open.clear()
        return begun, waiting


class AmqpDelivery:
    """A message from the broker. Only the first answer counts: a second one would close the channel."""

    __slots__ = ("_handout", "_tag", "answer", "answered_at", "begun", "envelope", "queue", "redelivered")

    def __init__(self, tag: int, redelivered: bool, envelope: Envelope, queue: str, handout: Handout) -> None:
        self._tag, self.redelivered, self.envelope = tag, redelivered, envelope
        self.queue, self._handout = queue, handout
        self.answer: _Answer | None = None
        self.answered_at: float | None = None
        self.begun = False
        handout.open[tag] = self

    @property
    def lost(self) -> bool:
        return self._handout.ended

    def begin(self) -> None:
        self.begun = True

    async def ack(self) -> None:
        self.decide("ack")

    async def reject(self, *, requeue: bool) -> None:
        self.decide("fail" if requeue else "reject")

    async def give_back(self) -> None:
        self.decide("give back")

    def decide(self, answer: _Answer) -> None:
        """Answer at once, unless there is an answer, or no channel."""
        if self.answer is not None:
            return
        self.answer, self.answered_at = answer, time.monotonic()
        if not self.lost:
            self._send(answer)
        elif answer != "give back":
            log.warning(
                "%s: cannot answer message %s (%s): its channel is gone. The broker delivers it again",
                self.queue,
                self.envelope.message_id,
                answer,
            )

    def take_over(self, tag: int, handout: Handout) -> None:
        """Take over a new delivery of the same message: answer it now, or at the end of the handling."""
        log.warning(
            "%s: message %s came again, and %s; it is not handled twice",
            self.queue,
            self.envelope.message_id,
            "is still being handled" if self.answer is None else "was handled meanwhile",
        )
        self._tag, self._handout = tag, handout
        handout.open[tag] = self
        if self.answer is not None:
            self._send(self.answer)

    def _send(self, answer: _Answer) -> None:
        channel, tag = self._handout.channel, self._tag
        self._handout.open.pop(tag, None)
        match answer:
            case "ack":
                channel.ack(tag)
            case "give back":
                channel.give_back(tag)
            case _:
                # Not nack: the broker counts a reject as a failure. It does not count a nack, and would deliver for
                # ever.
                channel.reject(tag, requeue=answer == "fail")


class Unanswered:
    """Deliveries being handled when their channel ended. Any subscription of the client may get them again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], AmqpDelivery] = {}

    def keep(self, deliveries: Iterable[AmqpDelivery]) -> None:
        """Keep deliveries for later. Those without a message id cannot be recognised, and are not kept."""
        oldest = time.monotonic() - _REMEMBERED_S
        self._kept = {
            key: each for key, each in self._kept.items() if each.answered_at is None or each.answered_at > oldest
        }
        for each in deliveries:
            if each.envelope.message_id:
                self._kept[each.queue, each.envelope.message_id] = each

    def pop(self, delivery: AmqpDelivery) -> AmqpDelivery | None:
        """Return and forget the earlier delivery of the same message, unless it was given back."""
        key = (delivery.queue, delivery.envelope.message_id)
        kept = self._kept.get(key)
        if kept is None or not delivery.redelivered or not _same(kept.envelope, delivery.envelope):
            return None
        del self._kept[key]
        return None if kept.answer == "give back" else kept


def _same(one: Envelope, other: Envelope) -> bool:
    """Return True if two envelopes are one message: equal except for the broker's counters."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("body", "exchange", "routing_key", "timestamp", "app_id", "correlation_id")
    ) and _own(one.headers) == _own(other.headers)


def _own(headers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if not name.startswith("x-")}
