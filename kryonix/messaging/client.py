"""MessagingClient: what an application holds to send and consume its tenant's messages."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack, get_args

from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.audit import Auditor, AuditSink
from kryonix.messaging.checks import checked_count, checked_like, checked_patience, checked_seconds, shown
from kryonix.messaging.configuration import HEARTBEAT, PREFETCH, find_address
from kryonix.messaging.consuming.ahead import LONGEST_HANDLER, take_ahead
from kryonix.messaging.consuming.consumer import Consumer, Handler
from kryonix.messaging.consuming.stream import Stream
from kryonix.messaging.consuming.work import Source
from kryonix.messaging.encoding import MAX_BYTES, Compression
from kryonix.messaging.errors import ConfigurationError, NotConnected
from kryonix.messaging.facade import Facade
from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import Device, Outgoing, SendResult
from kryonix.messaging.modules import ActionName, Facades, ModuleName
from kryonix.messaging.options import ClientOptions
from kryonix.messaging.publishing.admission import check_module, check_route
from kryonix.messaging.publishing.batch import Batch, send_all
from kryonix.messaging.publishing.sender import Sender
from kryonix.messaging.routing import Router
from kryonix.messaging.stats import QueueStats, read_stats
from kryonix.messaging.transport import Transport
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.naming import Names

__all__ = ["MessagingClient"]

_MOST_AHEAD: Final = 65_535
"""The largest prefetch that AMQP can say."""
_SLOWEST_HEARTBEAT: Final = 21_600
"""Seconds; with that a dead connection is noticed after 18 hours."""


class MessagingClient(Facades):
    """A tenant's messages: send, consume, and the figures of the queues. Made by `connect`, ended by `close`."""

    def __init__(
        self,
        transport: Transport,
        tenant_id: str,
        *,
        application: str,
        catalog: Catalog | None = None,
        prefetch: int = PREFETCH,
        router: Router | None = None,
        router_timeout: float = 1.0,
        compression: Compression | None = "zstd",
        audit: AuditSink | None = None,
        idempotency: IdempotencyStore | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Applications use `connect`.

        `catalog` is the platform's where it isn't the package's; `prefetch`, how many messages a consumer is handed
        ahead; `router`, what decides instead of the rules, within `router_timeout` seconds; `compression`, for mobile;
        `audit`, who is told of every send; `idempotency`, who remembers what was handled; `max_bytes`, how large a
        message may be. Raises ConfigurationError.
        """
        super().__init__(self)
        _check_application(application)
        _check_compression(compression)
        _check_parts(catalog, router, audit, idempotency)
        router_timeout = checked_seconds("router_timeout", router_timeout)
        self._names, self._catalog = Names(tenant_id), catalog or default_catalog()
        self._transport = transport
        self._prefetch = checked_count("prefetch", prefetch, _MOST_AHEAD)
        self._max_bytes = checked_count("max_bytes", max_bytes, MAX_BYTES)
        self._auditor = None if audit is None else Auditor(audit)
        self._idempotency = idempotency
        self._sender = Sender(
            self._names,
            application,
            self._catalog,
            transport,
            router=router,
            router_timeout=router_timeout,
            compression=compression,
            auditor=self._auditor,
            max_bytes=max_bytes,
        )
        self._consumers: list[Consumer] = []
        self._streams: list[Stream] = []
        self._closing = self._closed = False

    @classmethod
    async def connect(
        cls,
        amqp_uri: str | None = None,
        *,
        application: str | None = None,
        outputs: str | Path | None = None,
        tenant: str | None = None,
        management_url: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        heartbeat: int = HEARTBEAT,
        timeout: float = 10.0,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Connect to a tenant's vhost.

        `amqp_uri`, or the environment's KRYONIX_AMQP_URI, or else the file `outputs` (or KRYONIX_OUTPUTS) that
        `kryonix tenant credentials` wrote, or `kryonix outputs --json --show-secrets`, where `tenant` says which of
        several. The connection is named after tenant and `application`, which is the running program's name where none
        is given. `amqps` verifies the broker's certificate; `ssl_context` replaces the system's authorities. `timeout`
        and `heartbeat` are seconds. Further options are those of the class. Raises ConfigurationError, NotConnected or
        AccessRefused.
        """
        timeout = checked_seconds("timeout", timeout)
        heartbeat = checked_count("heartbeat", heartbeat, _SLOWEST_HEARTBEAT)
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            problem = f"ssl_context {shown(ssl_context)} is no ssl.SSLContext"
            raise ConfigurationError(problem, remedy="Make one with ssl.create_default_context(cafile=…)")
        address = find_address(amqp_uri, outputs, tenant, management_url)
        application = (Path(sys.argv[0]).stem[:100] or "python") if application is None else application
        transport = AmqpTransport(address, f"{address.tenant_id}/{application}", ssl_context, heartbeat)
        # Before there is a connection, so that none is left where an option makes no sense.
        client = cls(transport, address.tenant_id, application=application, **options)
        await transport.open(timeout)
        return client

    @property
    def tenant_id(self) -> str:
        return self._names.tenant_id

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment. A lost one is being replaced."""
        return not self._closing and self._transport.connected

    @property
    def audit_dropped(self) -> int:
        """Audit records that the sink was too slow for, or would not take."""
        return 0 if self._auditor is None else self._auditor.dropped

    def module(self, name: str) -> Facade[str]:
        """The facade of any module, also one that only your own catalog has."""
        own = vars(self).get(name) if isinstance(name, str) else None
        return own if isinstance(own, Facade) else Facade(self, name, 5)

    async def send(
        self,
        module: ModuleName,
        action: ActionName,
        data: Any,
        *,
        priority: int = 5,
        device: Device = "unknown",
        message_id: str | None = None,
        expires: timedelta | float | None = None,
        headers: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> SendResult:
        """Send a message and wait until the broker has stored it, `timeout` seconds at most.

        A connection that breaks meanwhile is waited for, and the message published again with the same id. Raises
        UnknownRoute, NotSerializable, ConfigurationError (nothing was sent), NotConnected, NotRoutable, QueueFull (not
        stored), SendTimedOut (outcome unknown).
        """
        message = Outgoing(module, action, data, priority, device, message_id, expires, headers or {})
        return await self.send_message(message, timeout=timeout)

    async def send_message(self, message: Outgoing, *, timeout: float = 10.0) -> SendResult:
        """As `send`, with everything in one object."""
        self._check_open()
        return await self._sender.send(message, timeout)

    async def send_many(
        self,
        messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
        *,
        window: int = 256,
        timeout: float = 10.0,
    ) -> Batch:
        """Send many messages, `window` of them at a time, without waiting for one confirmation before the next send.

        Messages are taken from the iterable as they can be sent. `timeout` (seconds) is each message's own. No
        failure stops the others: `Batch.sent` and `Batch.failed` say how each ended.
        """
        self._check_open()
        return await send_all(self._sender, messages, window, timeout)

    async def broadcast(self, data: Any, *, message_id: str | None = None, timeout: float = 10.0) -> SendResult:
        """Send to every queue of the tenant's modules with AI routing, by the automation exchange.

        QueueFull then says that at least one queue was full; others may have taken the message.
        """
        self._check_open()
        return await self._sender.broadcast(data, message_id, timeout)

    async def consume(
        self,
        module: ModuleName,
        action: ActionName,
        handler: Handler,
        *,
        concurrency: int = 10,
        prefetch: int | None = None,
        handler_timeout: float | None = 60.0,
        timeout: float = 10.0,
    ) -> Consumer:
        """Have `handler` called with each message of an action, `concurrency` of them at a time, until the consumer is
        stopped.

        Returning is done. `raise Retry()`, any other exception and more than `handler_timeout` seconds are a failure:
        the message comes back later, and is a dead letter after the last attempt. `raise Reject(reason)` makes it one
        at once. `prefetch` is how many messages the broker hands out ahead, fewer where handlers may take so long that
        the last would wait for days. `handler_timeout` is a day at most; with None the broker still takes a message
        back after a day. Raises NotConnected or NotRoutable after at most `timeout` seconds; later breaks are mended by
        the consumer itself.
        """
        concurrency = checked_count("concurrency", concurrency, _MOST_AHEAD)
        timeout = checked_seconds("timeout", timeout)
        if handler_timeout is not None:
            handler_timeout = _checked_handler_timeout(handler_timeout)
        if not callable(handler):
            raise ConfigurationError(f"{shown(handler)} is no handler", remedy="Pass `async def handler(message)`")
        source = self._source(module, action, handler_timeout)
        consumer = Consumer(source, handler, concurrency, handler_timeout)
        prefetch = self._prefetched(prefetch, concurrency)
        ahead, answer_within = take_ahead(prefetch, concurrency, len(source.queues), handler_timeout)
        await consumer.start(ahead, answer_within, timeout)
        if self._closing:
            # Closed meanwhile, when it was not among those to stop.
            await consumer.stop(0)
        self._check_consuming()
        self._consumers = [consumer, *(each for each in self._consumers if not each.stopped)]
        return consumer

    def stream(
        self, module: ModuleName, action: ActionName, *, prefetch: int | None = None, timeout: float = 10.0
    ) -> Stream:
        """Messages of an action, one by one:

        `async with client.stream("crm", "leads.create") as stream:`
        `    async for item in stream:`
        `        async with item as message: ...`
        """
        timeout = checked_seconds("timeout", timeout)
        stream = Stream(self._source(module, action, None), self._prefetched(prefetch, 1), timeout)
        self._streams = [stream, *(each for each in self._streams if not each.ended)]
        return stream

    async def queue_stats(self, module: ModuleName | None = None, *, timeout: float = 10.0) -> list[QueueStats]:
        """The figures of all queues, or of a module's. Raises StatsUnavailable where they can't be read."""
        self._check_open()
        if module is not None:
            check_module(self._catalog, module)
        figures = await self._transport.queues(checked_seconds("timeout", timeout))
        stats = [read_stats(queue, self._names, self._catalog) for queue in figures]
        return [queue for queue in stats if module is None or queue.module == module]

    def _source(self, module: str, action: str, handler_timeout: float | None) -> Source:
        self._check_consuming()
        check_route(self._catalog, module, action)
        lease = 3_600.0 if handler_timeout is None else handler_timeout + 30.0
        return Source(
            self._transport, self._names, self._catalog, module, action, self._idempotency, lease, self._max_bytes
        )

    def _prefetched(self, prefetch: int | None, concurrency: int) -> int:
        chosen = self._prefetch if prefetch is None else checked_count("prefetch", prefetch, _MOST_AHEAD)
        return max(chosen, concurrency)

    def _check_open(self) -> None:
        if self._closed:
            raise NotConnected("the client is closed", remedy="Connect a new one")

    def _check_consuming(self) -> None:
        if self._closing:
            raise NotConnected("the client is closed", remedy="Connect a new one")

    async def close(self, timeout: float = 30.0) -> None:
        """Stop all consumers, letting handlers finish for `timeout` seconds, and disconnect. Safe to call twice.

        Handlers that finish can still send: only then the client is closed to senders too.
        """
        timeout = checked_patience("timeout", timeout)
        if self._closing:
            return
        self._closing = True
        try:
            await asyncio.gather(
                *(consumer.stop(timeout) for consumer in self._consumers), *(stream.close() for stream in self._streams)
            )
            self._closed = True
            self._sender.close()
            if self._auditor is not None:
                await self._auditor.close()
            if self._idempotency is not None:
                await self._idempotency.close()
        finally:
            self._closed = True
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _checked_handler_timeout(seconds: Any) -> float:
    checked = checked_seconds("handler_timeout", seconds)
    if checked <= LONGEST_HANDLER:
        return checked
    problem = f"handler_timeout {checked:,g} s is longer than the broker is asked to wait, {LONGEST_HANDLER:,.0f} s"
    raise ConfigurationError(problem, remedy="Note down what is to be done, answer, and do it in a task of its own")


def _check_application(name: Any) -> None:
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= 100:
        problem = f"application {shown(name)} is no name"
        raise ConfigurationError(problem, remedy="Name the application, in printable text of at most 100 characters")


def _check_parts(catalog: Any, router: Any, audit: Any, idempotency: Any) -> None:
    if catalog is not None and not isinstance(catalog, Catalog):
        problem = f"catalog {shown(catalog)} is no Catalog"
        raise ConfigurationError(problem, remedy="Read one with kryonix.topology.catalog.parse_catalog()")
    for name, part, methods in (
        ("router", router, ("decide",)),
        ("audit", audit, ("write", "close")),
        ("idempotency", idempotency, ("claim", "done", "release", "close")),
    ):
        if part is not None:
            checked_like(name, part, *methods)


def _check_compression(compression: Any) -> None:
    if compression is not None and compression not in get_args(Compression):
        problem = f"compression {shown(compression)} is none of {', '.join(get_args(Compression))}"
        raise ConfigurationError(problem, remedy="Pass one of them, or None for no compression")
