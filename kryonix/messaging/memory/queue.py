"""A quorum queue in memory: strict priorities, a depth limit, expiry, counted failures, delayed retries."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kryonix.messaging.message import Envelope
from kryonix.messaging.transport import Deliver
from kryonix.topology.objects import Queue

Reason = Literal["rejected", "expired", "delivery_limit"]

_order = itertools.count()


@dataclass(slots=True, eq=False)
class _Reader:
    """A consumer of the queue, and what it has not answered."""

    deliver: Deliver
    prefetch: int
    unanswered: list[MemoryDelivery] = field(default_factory=list)


class MemoryDelivery:
    """A delivered message. Only the first answer counts."""

    def __init__(self, queue: MemoryQueue, reader: _Reader, entry: Envelope) -> None:
        self.envelope = replace(entry, headers=dict(entry.headers))
        self._source, self._reader, self._entry = queue, reader, entry
        self.open = True

    @property
    def queue(self) -> str:
        return self._source.name

    @property
    def lost(self) -> bool:
        return not self.open

    def begin(self) -> None:
        """Nothing is lost in memory."""

    async def ack(self) -> None:
        self._answer(lambda entry: None)

    async def reject(self, *, requeue: bool) -> None:
        self._answer(self._source.fail if requeue else self._source.refuse)

    async def give_back(self) -> None:
        self._answer(self._source.put_back)

    def _answer(self, then: Callable[[Envelope], None]) -> None:
        if self.open:
            self.open = False
            self._source.unacked -= 1
            self._reader.unanswered.remove(self)
            then(self._entry)
            self._source.hand_out()


class MemoryQueue:
    """One queue. Each dead letter is passed to `dead_letter`, with the reason."""

    def __init__(
        self, queue: Queue, policy: dict[str, Any], delay: float, dead_letter: Callable[[Queue, Envelope, Reason], None]
    ) -> None:
        self.name, self._spec, self._policy = queue.name, queue, policy
        self._delay, self._dead_letter = delay, dead_letter
        self._ready: list[tuple[int, int, Envelope]] = []
        self._readers: list[_Reader] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self.unacked = 0
        self.delayed = 0

    @property
    def full(self) -> bool:
        limit = self._policy.get("max-length")
        rejects = self._policy.get("overflow") == "reject-publish"
        return rejects and limit is not None and len(self._ready) + self.delayed >= limit

    @property
    def ready(self) -> list[Envelope]:
        return [envelope for _, _, envelope in sorted(self._ready, key=lambda entry: entry[:2])]

    @property
    def consumers(self) -> int:
        return len(self._readers)

    def put(self, envelope: Envelope) -> None:
        limits = [limit for limit in (envelope.expiration, self._policy.get("message-ttl")) if limit is not None]
        entry = self._enqueue(envelope)
        if limits:
            self._later(min(limits), lambda: self._expire(entry))
        self.hand_out()

    def _enqueue(self, envelope: Envelope) -> tuple[int, int, Envelope]:
        entry = (-min(envelope.priority, 31), next(_order), envelope)
        heapq.heappush(self._ready, entry)
        return entry

    def _later(self, milliseconds: float, then: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(handle)
            then()

        handle = asyncio.get_running_loop().call_later(milliseconds / 1000 * self._delay, run)
        self._timers.add(handle)

    def _expire(self, entry: tuple[int, int, Envelope]) -> None:
        if entry in self._ready:
            self._ready.remove(entry)
            heapq.heapify(self._ready)
            self._dead_letter(self._spec, replace(entry[2], expiration=None), "expired")

    def fail(self, envelope: Envelope) -> None:
        """Count a failure: deliver again later, or dead-letter after the delivery limit."""
        failures = envelope.headers.get("x-delivery-count", 0) + 1
        limit = self._policy.get("delivery-limit", 20)
        if 0 <= limit < failures:
            self._dead_letter(self._spec, envelope, "delivery_limit")
            return
        self.put_back(replace(envelope, headers={**envelope.headers, "x-delivery-count": failures}), failures)

    def put_back(self, envelope: Envelope, times: int = 1) -> None:
        """Deliver again, after the policy's delay for so many failures."""
        handed_out = envelope.headers.get("x-acquired-count", 0) + 1
        again = replace(envelope, headers={**envelope.headers, "x-acquired-count": handed_out})

        def come_back() -> None:
            self.delayed -= 1
            self._enqueue(again)
            self.hand_out()

        self.delayed += 1
        first, longest = self._policy.get("delayed-retry-min"), self._policy.get("delayed-retry-max", 0)
        if first is None:
            come_back()
        else:
            self._later(min(first * times, longest), come_back)

    def refuse(self, envelope: Envelope) -> None:
        self._dead_letter(self._spec, envelope, "rejected")

    def read(self, deliver: Deliver, prefetch: int) -> _Reader:
        reader = _Reader(deliver, prefetch)
        self._readers.append(reader)
        self.hand_out()
        return reader

    def stop_reading(self, reader: _Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def hand_out(self) -> None:
        """Deliver ready messages to the readers below their prefetch, in turn."""
        while self._ready:
            reader = next((each for each in self._readers if len(each.unanswered) < each.prefetch), None)
            if reader is None:
                return
            self._readers.remove(reader)
            self._readers.append(reader)
            _, _, envelope = heapq.heappop(self._ready)
            delivery = MemoryDelivery(self, reader, envelope)
            reader.unanswered.append(delivery)
            self.unacked += 1
            reader.deliver(delivery)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
