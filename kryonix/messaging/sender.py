"""From data to a confirmed message: check, encode, route, publish, audit."""

from __future__ import annotations

import asyncio
import itertools
import os
import reprlib
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kryonix import __version__
from kryonix.messaging.audit import AuditRecord
from kryonix.messaging.checks import (
    check_options,
    check_route,
    check_type,
    checked_count,
    checked_seconds,
    milliseconds,
)
from kryonix.messaging.encoding import MIN_COMPRESSED, Compression, compress, encode
from kryonix.messaging.errors import ConfigurationError, MessagingError, NotRoutable
from kryonix.messaging.message import Envelope, Outgoing, RouteHeaders, SendResult
from kryonix.messaging.outcomes.recorder import Recorder
from kryonix.messaging.reach import Reach
from kryonix.messaging.routing import Decision, SafeRouter, address, expires_ms
from kryonix.messaging.tracing import sending, traced
from kryonix.messaging.transport import Transport
from kryonix.messaging.writer import Writer
from kryonix.routing.known import Known
from kryonix.routing.shapes import Shapes
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

if TYPE_CHECKING:
    from kryonix.messaging.learned import LearnedRouter
    from kryonix.messaging.outcomes.note import Published
    from kryonix.routing.learned import Choice

_PLACES: Final = 10_000
"""Remembered places of messages."""
_MAX_WINDOW: Final = 10_000
"""Messages in flight, with one task each."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The outcome of `send_many`. Both lists are in the order of the input."""

    sent: tuple[SendResult, ...]
    failed: tuple[tuple[Outgoing, MessagingError], ...]
    """Messages without confirmation, with the error of each."""

    def raise_for_failed(self) -> None:
        """Raise an ExceptionGroup with all errors, if there are any."""
        if self.failed:
            raise ExceptionGroup(f"{len(self.failed)} messages were not sent", [error for _, error in self.failed])


@dataclass(slots=True)  # frozen, it takes twice as long to make, at each send
class _Place:
    """Where a message goes. Don't change one."""

    decision: Decision
    exchange: str
    routing_key: str
    queue: str
    expiry: int | None
    """The catalog's time to live for a message to a mobile device, in ms."""
    headers: RouteHeaders
    """The SDK's own."""


@dataclass(slots=True)
class Sender:
    """Send the messages of one client."""

    transport: Transport
    names: Names
    catalog: Catalog
    application: str
    router: SafeRouter
    compression: Compression | None
    auditor: Writer[AuditRecord] | None
    max_bytes: int
    reach: Reach
    shapes: Shapes
    learned: LearnedRouter | None = None
    """Instead of the router's own choice: it decides without waiting."""
    recorder: Recorder | None = None
    places: dict[Choice | tuple[str, str, int, str], _Place] = field(default_factory=dict)
    """By a model's choice, or by what the rules look at: module, action, priority and device."""

    async def send(self, message: Outgoing, timeout: float) -> SendResult:
        """Send and wait for the broker's confirmation."""
        started = time.monotonic()
        timeout = checked_seconds("timeout", timeout)
        check_type("message", message, Outgoing)
        envelope = self._encoded(message, started)
        known = self._known(message, envelope)
        choice = None
        if self.learned is not None and known is not None:
            choice = self.learned.choose(known)
            place = self._chosen(self.learned, message, choice)
        elif self.router.chosen is None and message.expires is None:
            place = self._ruled(message)
        else:
            place = self._place(message, await self.router.decide(message, timeout / 2))
        decision = place.decision
        tried = self._compress(envelope, decision, choice)
        envelope.headers = {**message.headers, **place.headers} if message.headers else place.headers
        envelope.exchange, envelope.routing_key = place.exchange, place.routing_key
        # The shorter of the caller's time and, for mobile, the catalog's.
        envelope.expiration = place.expiry
        if message.expires is not None:
            own = milliseconds(message.expires, envelope.message_id)
            envelope.expiration = own if place.expiry is None else min(own, place.expiry)
        try:
            result = await self._publish(message, envelope, decision, timeout, started, place.queue)
        except BaseException:
            if known is not None and self.learned is not None:
                self.learned.forget(known)
            raise
        if known is not None and self.recorder is not None and self.recorder.takes(known.message_id):
            self.recorder.writer.note(self._note(known, choice, decision, len(envelope.body) if tried else None))
        return result

    def _place(self, message: Outgoing, decision: Decision) -> _Place:
        exchange, key = address(self.names, message, decision)
        expiry = self.catalog.modules[message.module].mobile_expiry if decision.mobile_optimized else None
        headers = self._headers(decision.mobile_optimized, modulo=message.module, acao=message.action)
        return _Place(decision, exchange, key, self.names.queue(message.module, message.action), expiry, headers)

    def _headers(self, mobile_optimized: bool, **route: str) -> RouteHeaders:
        own = {"cliente-id": self.names.tenant_id, "mobile-optimized": mobile_optimized}
        return RouteHeaders({**route, **own, "kryonix-sdk-version": __version__})

    def _ruled(self, message: Outgoing) -> _Place:
        """Return where the rules send a message that states no time to live."""
        key = message.module, message.action, message.priority, message.device
        if (known := self.places.get(key)) is None:
            known = self._remember(key, self._place(message, self.router.rules.apply(message)))
        return known

    def _remember(self, key: Choice | tuple[str, str, int, str], place: _Place) -> _Place:
        if len(self.places) >= _PLACES:
            self.places.clear()
        self.places[key] = place
        return place

    def _chosen(self, learned: LearnedRouter, message: Outgoing, choice: Choice | None) -> _Place:
        """Return where a model's choice goes: worked out once for all messages that get the same choice."""
        if choice is not None and (known := self.places.get(choice)) is not None:
            return known
        place = self._place(message, learned.route(message, choice, self.router.rules))
        if choice is not None and choice.who != "rules" and message.expires is None:
            self._remember(choice, place)
        return place

    def _known(self, message: Outgoing, envelope: Envelope) -> Known | None:
        """Return what a model may look at, if one is asked or a note is taken."""
        if self.learned is None and (self.recorder is None or not self.recorder.takes(envelope.message_id)):
            return None
        try:
            shape = self.shapes.of(message.data)
        except Exception:  # noqa: BLE001 - the caller's own containers may raise anything; the rules decide
            return None
        return Known(
            message.module,
            message.action,
            time.time(),
            envelope.message_id,
            len(envelope.body),
            message.device,
            shape,
            message.priority,
            None if message.expires is None else expires_ms(message),
        )

    def _compress(self, envelope: Envelope, decision: Decision, choice: Choice | None) -> bool:
        """Compress a message to a mobile device, unless a model that is obeyed expects no saving. Return True if so."""
        if not decision.mobile_optimized or self.compression is None or len(envelope.body) < MIN_COMPRESSED:
            return False
        if choice is not None and choice.who == "learned" and not choice.prediction.compresses:
            return False
        envelope.body, envelope.content_encoding = compress(envelope.body, self.compression)
        return True

    def _note(self, known: Known, choice: Choice | None, decision: Decision, compressed: int | None) -> Published:
        from kryonix.messaging.outcomes.note import Published

        expected = None if choice is None else choice.prediction
        return Published(
            tenant=self.names.tenant_id,
            module=known.module,
            action=known.action,
            message_id=known.message_id,
            at=known.at,
            bytes=known.bytes,
            device=known.device,
            shape=known.shape,
            priority=known.priority,
            expires_ms=known.expires_ms,
            priority_used=decision.priority,
            decision="rules" if choice is None else choice.who,
            propensity=1.0 if choice is None else choice.propensity,
            compressed_bytes=compressed,
            time=None if expected is None else expected.time,
            left=None if expected is None else expected.left,
            version=None if choice is None else choice.version,
        )

    async def broadcast(self, data: Any, message_id: str | None, timeout: float) -> SendResult:
        """Publish to every queue of the modules with AI routing."""
        started = time.monotonic()
        timeout = checked_seconds("timeout", timeout)
        message = Outgoing("automation", "broadcast", data, message_id=message_id)
        envelope = self._encoded(message, started, routed=False)
        envelope.exchange, envelope.headers = self.names.automation_exchange, self._headers(False)
        decision = Decision("main", message.priority, False, "automation: a broadcast")
        modules = self.catalog.modules.items()
        queues = [self.names.queue(name, module.actions[0]) for name, module in modules if module.ai_routing]
        return await self._publish(message, envelope, decision, timeout, started, *queues)

    def _encoded(self, message: Outgoing, started: float, *, routed: bool = True) -> Envelope:
        """Check a message, and return it without an address. A refusal is audited too."""
        message_id = _new_id() if message.message_id is None else message.message_id
        try:
            check_options(message, message_id)
            if routed:
                # Not the generated id: it means nothing to the caller.
                check_route(self.catalog, message.module, message.action, message.message_id)
            body, content_type = encode(message.data, message_id, self.max_bytes)
        except Exception as error:
            # Nothing is checked yet: an arbitrary value would spoil a whole batch of audit records.
            asked = replace(message, module=_printable(message.module), action=_printable(message.action))
            nowhere = Envelope(exchange="", routing_key="", body=b"", message_id=_printable(message_id))
            self._audit(asked, nowhere, type(error).__name__, started)
            if isinstance(error, MessagingError):
                raise
            # A value's own code has failed; one message must not end a batch.
            problem = f"the options cannot be read: {type(error).__name__}: {error}"
            raise ConfigurationError(problem, remedy="Pass plain values") from error
        return Envelope("", "", body, message_id, content_type=content_type, app_id=self.application)

    async def _publish(
        self, message: Outgoing, envelope: Envelope, decision: Decision, timeout: float, started: float, *queues: str
    ) -> SendResult:
        """Publish, if at least one of `queues` exists, and audit the outcome."""
        envelope.priority, envelope.timestamp = decision.priority, datetime.now(UTC)
        outcome = "cancelled"
        try:
            with sending(envelope, self.transport):
                envelope.headers = traced(envelope.headers)
                left = timeout - (time.monotonic() - started)
                if not self.reach.is_known(queues) and not await self.reach.find(queues, left):
                    raise NotRoutable(f"the tenant {self.names.tenant_id} has no queue {' or '.join(queues)}")
                await self.transport.publish(envelope, timeout - (time.monotonic() - started))
            outcome = "confirmed"
        except MessagingError as error:
            outcome = type(error).__name__
            if error.message_id is not None:
                raise
            raise type(error)(error.problem, message_id=envelope.message_id, remedy=error.remedy) from error
        finally:
            self._audit(message, envelope, outcome, started)
        return SendResult(
            message_id=envelope.message_id,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            priority=envelope.priority,
            mobile_optimized=decision.mobile_optimized,
            bytes=len(envelope.body),
            decision=decision.reason,
        )

    def _audit(self, message: Outgoing, envelope: Envelope, outcome: str, started: float) -> None:
        if self.auditor is None:
            return
        self.auditor.note(
            AuditRecord(
                at=envelope.timestamp or datetime.now(UTC),
                tenant=self.names.tenant_id,
                application=self.application,
                message_id=envelope.message_id,
                module=message.module,
                action=message.action,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
                priority=envelope.priority,
                bytes=len(envelope.body),
                outcome=outcome,
                milliseconds=round((time.monotonic() - started) * 1000, 3),
            )
        )

    async def send_many(
        self, messages: Iterable[Outgoing] | AsyncIterable[Outgoing], window: int, timeout: float
    ) -> Batch:
        """Send with `window` tasks, each taking the next message of the iterable.

        An error of the iterable stops the sending; it is raised once the messages in flight are done.
        """
        check_type("messages", messages, Iterable | AsyncIterable)
        window, timeout = checked_count("window", window, _MAX_WINDOW), checked_seconds("timeout", timeout)
        broken: list[BaseException] = []
        following = _following(messages, broken)
        numbers = itertools.count()
        sent: dict[int, SendResult] = {}
        failed: dict[int, tuple[Outgoing, MessagingError]] = {}

        async def work() -> None:
            while True:
                try:
                    message = await following()
                except StopAsyncIteration:
                    return
                except (Exception, asyncio.CancelledError) as error:
                    # The caller's code may raise anything, also the cancellation of a task that it waits for.
                    if (task := asyncio.current_task()) is not None and task.cancelling():
                        raise
                    broken.append(error)
                    return
                number = next(numbers)
                try:
                    sent[number] = await self.send(message, timeout)
                except MessagingError as error:
                    failed[number] = (message, error)
                    await asyncio.sleep(0)  # failures that need no broker would hold up the whole program

        async with asyncio.TaskGroup() as group:
            for _ in range(window):
                group.create_task(work())
        if broken:
            broken[0].add_note(f"{len(sent)} messages were sent before, {len(failed)} failed")
            raise broken[0]
        return Batch(tuple(sent[number] for number in sorted(sent)), tuple(failed[number] for number in sorted(failed)))


def _new_id() -> str:
    """Return a UUID of version 4, in a third of the time of the standard library: each message has one."""
    drawn = bytearray(os.urandom(16))
    drawn[6], drawn[8] = drawn[6] & 0x0F | 0x40, drawn[8] & 0x3F | 0x80
    return drawn.hex()


def _printable(name: Any) -> str:
    return name[:255] if isinstance(name, str) and name.isprintable() else reprlib.repr(name)[:60]


def _following(
    messages: Iterable[Outgoing] | AsyncIterable[Outgoing], broken: list[BaseException]
) -> Callable[[], Awaitable[Outgoing]]:
    """Return a function that takes the next message. Once there is none, or `broken` has an error, it ends as `anext`.

    Only an asynchronous iterable needs turns: nothing else runs while the next message of another one is made.
    """
    iterator = None if isinstance(messages, AsyncIterable) else iter(messages)
    source = aiter(messages) if isinstance(messages, AsyncIterable) else None
    turn = asyncio.Lock()

    async def take() -> Outgoing:
        if iterator is not None and not broken:
            for message in iterator:
                return message
        elif source is not None:
            async with turn:
                if not broken:
                    return await anext(source)
        raise StopAsyncIteration

    return take
