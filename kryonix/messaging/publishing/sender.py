"""From data to a confirmed message: checked, encoded, routed, published, noted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from kryonix.messaging.audit import Auditor, AuditRecord
from kryonix.messaging.checks import checked_seconds, shown
from kryonix.messaging.encoding import MAX_BYTES, Compression, compress, encode
from kryonix.messaging.errors import ConfigurationError, MessagingError, NotConnected, NotRoutable
from kryonix.messaging.message import Envelope, Outgoing, SendResult
from kryonix.messaging.publishing.admission import check_options, check_route, milliseconds
from kryonix.messaging.publishing.reach import Reach
from kryonix.messaging.routing import Decision, Router, Rules, SafeRouter, address
from kryonix.messaging.tracing import inject, send_span
from kryonix.messaging.transport import Transport
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["SDK_VERSION", "Sender"]

SDK_VERSION: Final = "1.0.0"


class Sender:
    """Sends the messages of one client."""

    def __init__(
        self,
        names: Names,
        application: str,
        catalog: Catalog,
        transport: Transport,
        *,
        router: Router | None = None,
        router_timeout: float = 1.0,
        compression: Compression | None = "zstd",
        auditor: Auditor | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._names, self._application, self._catalog, self._transport = names, application, catalog, transport
        self._rules = Rules(catalog)
        self._router = None if router is None else SafeRouter(router, self._rules, router_timeout)
        self._compression, self._auditor, self._max_bytes = compression, auditor, max_bytes
        self._reach = Reach(transport)

    async def send(self, message: Outgoing, timeout: float) -> SendResult:
        """Send and wait for the broker's confirmation."""
        started = time.monotonic()
        if not isinstance(message, Outgoing):
            raise ConfigurationError(f"{type(message).__name__} is no message", remedy="Pass an Outgoing")
        timeout = checked_seconds("timeout", timeout)
        message_id = uuid.uuid4().hex if message.message_id is None else message.message_id
        body, content_type = self._admitted(message, message_id, started)
        if self._router is None:
            decision = self._rules.apply(message)
        else:
            decision = await self._router.decide(message, timeout / 2)
        envelope = self._envelope(message, message_id, decision, body, content_type)
        queue = self._names.queue(message.module, message.action)
        await self._publish(message, envelope, (queue,), timeout, started)
        return _result(envelope, decision)

    async def broadcast(self, data: Any, message_id: str | None, timeout: float) -> SendResult:
        """Publish to every queue of the modules with AI routing."""
        started = time.monotonic()
        timeout = checked_seconds("timeout", timeout)
        message = Outgoing("automation", "broadcast", data, message_id=message_id)
        message_id = uuid.uuid4().hex if message_id is None else message_id
        body, content_type = self._admitted(message, message_id, started, routed=False)
        envelope = Envelope(
            exchange=self._names.automation_exchange,
            routing_key="",
            body=body,
            message_id=message_id,
            headers={
                "cliente-id": self._names.tenant_id,
                "mobile-optimized": False,
                "kryonix-sdk-version": SDK_VERSION,
            },
            priority=message.priority,
            content_type=content_type,
            timestamp=datetime.now(UTC),
            app_id=self._application,
        )
        await self._publish(message, envelope, self._listeners(), timeout, started)
        return _result(envelope, Decision("main", message.priority, False, "automation: a broadcast"))

    def _admitted(
        self, message: Outgoing, message_id: str, started: float, *, routed: bool = True
    ) -> tuple[bytes, str]:
        """The body and its content type of a message that may be sent; a refusal is noted too."""
        try:
            check_options(message, message_id)
            if routed:
                # An id that was made up here belongs to nothing that the caller knows of.
                check_route(self._catalog, message.module, message.action, message.message_id)
            return encode(message.data, message_id, self._max_bytes)
        except MessagingError as error:
            self._note_refusal(message, message_id, error, started)
            raise

    def _listeners(self) -> list[str]:
        """One queue of each module that gets broadcasts."""
        modules = self._catalog.modules.items()
        return [self._names.queue(name, module.actions[0]) for name, module in modules if module.ai_routing]

    async def _publish(
        self, message: Outgoing, envelope: Envelope, queues: Sequence[str], timeout: float, started: float
    ) -> None:
        """Publish what one of `queues` at least will take, and note how it ended."""
        outcome = "cancelled"
        try:
            with send_span(envelope.exchange, envelope.routing_key, envelope.message_id, len(envelope.body)):
                inject(envelope.headers)
                await self._reachable(queues, envelope, timeout - (time.monotonic() - started))
                await self._transport.publish(envelope, timeout - (time.monotonic() - started))
            outcome = "confirmed"
        except MessagingError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._note(message, envelope, outcome, started)

    def _envelope(
        self, message: Outgoing, message_id: str, decision: Decision, body: bytes, content_type: str
    ) -> Envelope:
        encoding = None
        if decision.mobile_optimized and self._compression is not None:
            body, encoding = compress(body, self._compression)
        exchange, key = address(self._names, message, decision)
        return Envelope(
            exchange=exchange,
            routing_key=key,
            body=body,
            message_id=message_id,
            headers={
                **message.headers,
                "cliente-id": self._names.tenant_id,
                "modulo": message.module,
                "acao": message.action,
                "mobile-optimized": decision.mobile_optimized,
                "kryonix-sdk-version": SDK_VERSION,
            },
            priority=decision.priority,
            content_type=content_type,
            content_encoding=encoding,
            expiration=self._expiration(message, message_id, decision),
            timestamp=datetime.now(UTC),
            app_id=self._application,
        )

    def _expiration(self, message: Outgoing, message_id: str, decision: Decision) -> int | None:
        """ms; the shorter of what the caller and, for mobile, the catalog say."""
        limits = []
        if message.expires is not None:
            limits.append(milliseconds(message.expires, message_id))
        mobile_expiry = self._catalog.modules[message.module].mobile_expiry
        if decision.mobile_optimized and mobile_expiry is not None:
            limits.append(mobile_expiry)
        return min(limits, default=None)

    async def _reachable(self, queues: Sequence[str], envelope: Envelope, timeout: float) -> None:
        if self._reach.is_known(queues):
            return
        try:
            found = await self._reach.find(queues, timeout)
        except NotConnected as error:
            raise type(error)(error.problem, message_id=envelope.message_id, remedy=error.remedy) from error
        if not found:
            problem = f"the tenant {self._names.tenant_id} has no queue {' or '.join(queues)}"
            raise NotRoutable(problem, message_id=envelope.message_id)

    def close(self) -> None:
        self._reach.close()

    def _note(self, message: Outgoing, envelope: Envelope, outcome: str, started: float) -> None:
        if self._auditor is None:
            return
        self._auditor.note(
            AuditRecord(
                at=envelope.timestamp or datetime.now(UTC),
                tenant=self._names.tenant_id,
                application=self._application,
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

    def _note_refusal(self, message: Outgoing, message_id: Any, error: MessagingError, started: float) -> None:
        """Of a message that was not even routed, whatever its fields are."""
        if self._auditor is None:
            return
        asked = replace(message, module=_noted(message.module), action=_noted(message.action))
        nowhere = Envelope(exchange="", routing_key="", body=b"", message_id=_noted(message_id))
        self._note(asked, nowhere, type(error).__name__, started)


def _noted(name: Any) -> str:
    """A name as a record holds it: one that nobody checked may be anything, and would spoil a whole batch of them."""
    return name[:255] if isinstance(name, str) and name.isprintable() else shown(name)


def _result(envelope: Envelope, decision: Decision) -> SendResult:
    return SendResult(
        message_id=envelope.message_id,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        priority=envelope.priority,
        mobile_optimized=decision.mobile_optimized,
        bytes=len(envelope.body),
        decision=decision.reason,
    )
