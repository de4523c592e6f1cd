"""MessagingClient: send and consume the messages of one tenant."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import AsyncIterable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, Unpack, get_args

from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.audit import AuditRecord, AuditSink
from kryonix.messaging.checks import (
    check_handler,
    check_module,
    check_route,
    check_type,
    checked_count,
    checked_model,
    checked_patience,
    checked_seconds,
)
from kryonix.messaging.configuration import Address, find_address
from kryonix.messaging.consuming.consumer import MAX_HANDLER_S, Consumer, Data, Handler, Model
from kryonix.messaging.consuming.stream import Stream
from kryonix.messaging.consuming.work import Source
from kryonix.messaging.encoding import MAX_BYTES, Compression
from kryonix.messaging.errors import ConfigurationError, NotConnected
from kryonix.messaging.facade import ClientOptions, Facade
from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import Outgoing, SendOptions, SendResult
from kryonix.messaging.modules import ActionName, Facades, ModuleName
from kryonix.messaging.outcomes.recorder import Outcomes, Recorder, shapes_of
from kryonix.messaging.outcomes.table import PostgresOutcomes
from kryonix.messaging.reach import Reach
from kryonix.messaging.routing import Router, Rules, SafeRouter
from kryonix.messaging.sender import Batch, Sender
from kryonix.messaging.stats import QueueStats, read_stats
from kryonix.messaging.transport import Transport
from kryonix.messaging.writer import Writer
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.naming import Names

if TYPE_CHECKING:
    from kryonix.messaging.learned import LearnedRouter
    from kryonix.messaging.outcomes.note import Consumed

_MAX_PREFETCH: Final = 65_535
"""The largest prefetch in AMQP."""
_MAX_NAME_BYTES: Final = 255
"""Each message names its application. AMQP has room for so many bytes."""
_USUAL_HEARTBEAT: Final = 60
_QUICK_HEARTBEAT: Final = 10
"""Seconds, where there is another node to go to."""
_MAX_HEARTBEAT: Final = 21_600
"""Seconds. With this value a dead connection is noticed after 18 hours."""


class MessagingClient(Facades):
    """Send and consume a tenant's messages, and read its queue figures. Create it with `connect`."""

    def __init__(
        self,
        transport: Transport,
        tenant_id: str,
        *,
        application: str,
        catalog: Catalog | None = None,
        prefetch: int = 100,
        router: Router | None = None,
        router_timeout: float = 1.0,
        compression: Compression | None = "zstd",
        audit: AuditSink | None = None,
        outcomes: Outcomes | None = None,
        idempotency: IdempotencyStore | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Use `connect` instead; it takes the same options.

        - `catalog`: the platform's catalog. Default: the package's.
        - `prefetch`: messages delivered to a consumer before its first answer.
        - `router`: replaces the default rules, as LearnedRouter does. After `router_timeout` seconds the rules decide.
        - `compression`: for messages to mobile devices; None turns it off.
        - `audit`: receives a record of every send.
        - `outcomes`: where a share of the messages is noted, without their data: what was known, what became of it.
        - `idempotency`: remembers handled messages.
        - `max_bytes`: the largest message to send or decode.

        Raises ConfigurationError.
        """
        super().__init__(self)
        check_type("application", application, str)
        is_short = 1 <= len(application) <= 100 and len(application.encode(errors="replace")) <= _MAX_NAME_BYTES
        if not is_short or not application.isprintable():
            problem = f"application: {application!r:.60} is not a valid name"
            remedy = f"Pass printable text of at most 100 characters and {_MAX_NAME_BYTES} bytes"
            raise ConfigurationError(problem, remedy=remedy)
        check_type("catalog", catalog, Catalog | None)
        check_type("router", router, Router | None)
        check_type("audit", audit, AuditSink | None)
        check_type("outcomes", outcomes, Outcomes | None)
        check_type("idempotency", idempotency, IdempotencyStore | None)
        if compression not in (None, *get_args(Compression)):
            problem = f"compression: {compression!r:.60} is not one of {', '.join(get_args(Compression))}"
            raise ConfigurationError(problem, remedy="Pass one of them, or None to turn it off")
        self._names, self._catalog = Names(tenant_id), default_catalog() if catalog is None else catalog
        self._transport = transport
        self._prefetch = checked_count("prefetch", prefetch, _MAX_PREFETCH)
        self._max_bytes = checked_count("max_bytes", max_bytes, MAX_BYTES)
        self._auditor = None if audit is None else Writer[AuditRecord](audit, "audit records")
        self._idempotency = idempotency
        self._reach = Reach(transport)
        shapes = shapes_of(outcomes, tenant_id)
        self._learned = _learned(router)
        if self._learned is not None:
            self._learned.serve(tenant_id, shapes)
        self._recorder = None if outcomes is None else Recorder(outcomes)
        self._router_timeout = checked_seconds("router_timeout", router_timeout)
        chosen = None if self._learned is not None else router
        self._sender = Sender(
            transport,
            self._names,
            self._catalog,
            application,
            SafeRouter(chosen, Rules(self._catalog), self._router_timeout),
            compression,
            self._auditor,
            max_bytes,
            self._reach,
            shapes,
            self._learned,
            self._recorder,
        )
        self._feedback = outcomes.sink if outcomes is not None and isinstance(outcomes.sink, PostgresOutcomes) else None
        self._ready = False
        self._consumers: list[Consumer] = []
        self._streams: list[Stream] = []
        self._closing = self._closed = False
        self._ending = asyncio.Event()

    @classmethod
    async def connect(
        cls,
        amqp_uri: str | None = None,
        *,
        application: str | None = None,
        outputs: str | Path | None = None,
        tenant: str | None = None,
        management_url: str | None = None,
        addresses: Sequence[str] | None = None,
        ca_file: str | Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
        heartbeat: int | None = None,
        timeout: float = 10.0,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Connect to a tenant's vhost.

        - `amqp_uri`: default is the environment variable KRYONIX_AMQP_URI.
        - `outputs`: a file with credentials, written by `kryonix tenant credentials` or
          `kryonix outputs --json --show-secrets`. Used instead of a URI; default is KRYONIX_OUTPUTS.
        - `tenant`: selects a tenant if the file has several.
        - `application`: default is the name of the running program. It names the connection, too.
        - `addresses`: `HOST:PORT` of each of the broker's nodes. Default is the outputs' or KRYONIX_AMQP_ADDRESSES.
          Clients spread over them, move on from a node that is down, drained or frozen, and come back.
        - `ca_file`: the CAs to trust (PEM) instead of the system's. Default is KRYONIX_CA_FILE or the outputs' CA.
        - `ssl_context`: replaces both, for `amqps` and the management API.
        - `heartbeat`: seconds, default 60, with several addresses 10. A connection without traffic for three times as
          long is dead; with several addresses a silent node is given up sooner.
        - `timeout`: seconds.
        - The other options are those of MessagingClient.

        Raises ConfigurationError, NotConnected or AccessRefused.
        """
        address = find_address(amqp_uri, outputs, tenant, management_url, addresses, ca_file)
        return await cls.connect_to(
            address,
            application=application,
            ssl_context=ssl_context,
            heartbeat=heartbeat,
            timeout=timeout,
            **options,
        )

    @classmethod
    async def connect_to(
        cls,
        address: Address,
        *,
        application: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        heartbeat: int | None = None,
        timeout: float = 10.0,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Connect as `connect`, to an address that is known."""
        timeout = checked_seconds("timeout", timeout)
        check_type("ssl_context", ssl_context, ssl.SSLContext | None)
        usual = _QUICK_HEARTBEAT if address.others else _USUAL_HEARTBEAT
        heartbeat = checked_count("heartbeat", usual if heartbeat is None else heartbeat, _MAX_HEARTBEAT)
        application = (Path(sys.argv[0]).stem[:100] or "python") if application is None else application
        transport = AmqpTransport(address, f"{address.tenant_id}/{application}", ssl_context, heartbeat)
        # Check the options before there is a connection to close.
        client = cls(transport, address.tenant_id, application=application, **options)
        await transport.open(timeout)
        await client.ready(timeout=timeout)
        return client

    async def ready(self, *, timeout: float = 10.0) -> None:
        """Begin to load a learned router's model, and wait for it up to two seconds, at most `timeout`.

        `connect` does it. Without a model, or until it is there, the rules decide.
        """
        if self._learned is not None and not self._ready and not self._closing:
            self._ready = True
            await self._learned.start(timeout, self._router_timeout, self._feedback)

    @property
    def tenant_id(self) -> str:
        return self._names.tenant_id

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    @property
    def connected(self) -> bool:
        """True while there is a connection. A lost connection is replaced automatically."""
        return not self._closing and self._transport.connected

    @property
    def audit_dropped(self) -> int:
        """Number of audit records lost because the sink was too slow or failed."""
        return 0 if self._auditor is None else self._auditor.dropped

    @property
    def outcomes_dropped(self) -> int:
        """Number of notes lost because the sink of `outcomes` was too slow or failed."""
        return 0 if self._recorder is None else self._recorder.writer.dropped

    def module(self, name: str) -> Facade[str]:
        """Return the facade of any module, including one of a custom catalog."""
        module = self._catalog.modules.get(name)
        return Facade(self, name, 5 if module is None else module.default_priority)

    async def send(
        self,
        module: ModuleName,
        action: ActionName,
        data: Any,
        *,
        timeout: float = 10.0,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message and wait, at most `timeout` seconds, until the broker has stored it.

        Options, with defaults: `priority=5`, `device="unknown"`, `message_id=None`, `expires=None`, `headers=None`;
        see Outgoing. If the connection breaks, the message is published again with the same id. Raises UnknownRoute,
        NotSerializable, ConfigurationError (nothing was sent), NotConnected, NotRoutable, QueueFull (not stored),
        SendTimedOut (outcome unknown).
        """
        if options.get("headers", ...) is None:
            options["headers"] = {}
        return await self.send_message(Outgoing(module, action, data, **options), timeout=timeout)  # type: ignore[arg-type]

    async def send_message(self, message: Outgoing, *, timeout: float = 10.0) -> SendResult:
        """Send as `send`, with an Outgoing."""
        self._check_open(self._closed)
        return await self._sender.send(message, timeout)

    async def send_many(
        self,
        messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
        *,
        window: int = 256,
        timeout: float = 10.0,
    ) -> Batch:
        """Send many messages, `window` at a time, without waiting for each confirmation before the next send.

        Messages are taken from the iterable as they are sent. `timeout` (seconds) applies to each message. A failure
        does not stop the others: see `Batch.sent` and `Batch.failed`.
        """
        self._check_open(self._closed)
        return await self._sender.send_many(messages, window, timeout)

    async def broadcast(self, data: Any, *, message_id: str | None = None, timeout: float = 10.0) -> SendResult:
        """Send to every queue of the tenant's modules with AI routing.

        QueueFull means that at least one queue was full; others may have taken the message.
        """
        self._check_open(self._closed)
        return await self._sender.broadcast(data, message_id, timeout)

    async def consume(
        self,
        module: ModuleName,
        action: ActionName,
        handler: Handler[Data],
        *,
        model: Model[Data] = None,
        concurrency: int = 10,
        prefetch: int | None = None,
        handler_timeout: float | None = 60.0,
        timeout: float = 10.0,
    ) -> Consumer:
        """Call `handler` with each message of an action, `concurrency` at a time, until the consumer is stopped.

        The message is done when the handler returns. `raise Retry()`, any other exception, or more than
        `handler_timeout` seconds is a failure: the message comes back later, and becomes a dead letter after the last
        attempt. `raise Reject(reason)` makes it a dead letter at once.

        - `model`: the type of `message.data`: a Pydantic model, a dataclass, a TypedDict, or a Pydantic TypeAdapter for
          any other type. A message that does not fit it becomes a dead letter at once. Default: plain JSON.
        - `prefetch`: messages delivered ahead. Default: the client's. Reduced for a long `handler_timeout`.
        - `handler_timeout`: seconds, at most a day. With None the broker still takes a message back after a day.
        - `timeout`: seconds to wait for the subscription. Later connection losses are repaired automatically.

        Raises ConfigurationError, UnknownRoute, NotConnected or NotRoutable.
        """
        concurrency = checked_count("concurrency", concurrency, _MAX_PREFETCH)
        timeout = checked_seconds("timeout", timeout)
        if handler_timeout is not None and checked_seconds("handler_timeout", handler_timeout) > MAX_HANDLER_S:
            problem = f"handler_timeout {handler_timeout:,g} s is longer than the maximum, {MAX_HANDLER_S:,.0f} s"
            raise ConfigurationError(problem, remedy="Store the job, return, and do the work in a task of its own")
        check_handler(handler)
        source = self._source(module, action, handler_timeout, model)
        consumer = Consumer(source, handler, concurrency, handler_timeout)
        await consumer.start(self._checked_prefetch(prefetch, concurrency), timeout)
        if self._closing:
            # close() did not know this consumer yet.
            await consumer.stop(0)
        self._check_open(self._closing)
        self._consumers = [consumer, *(each for each in self._consumers if not each.stopped)]
        return consumer

    def stream(
        self,
        module: ModuleName,
        action: ActionName,
        *,
        model: Model[Data] = None,
        prefetch: int | None = None,
        timeout: float = 10.0,
    ) -> Stream[Data]:
        """Return the messages of an action as an asynchronous iterator:

        `async with client.stream("crm", "leads.create") as stream:`
        `    async for item in stream:`
        `        async with item as message: ...`

        For `model` see `consume`.
        """
        timeout = checked_seconds("timeout", timeout)
        source = self._source(module, action, None, model)
        stream: Stream[Data] = Stream(source, self._checked_prefetch(prefetch, 1), timeout)
        self._streams = [stream, *(each for each in self._streams if not each.ended)]
        return stream

    async def queue_stats(self, module: ModuleName | None = None, *, timeout: float = 10.0) -> list[QueueStats]:
        """Return the figures of all queues, or of one module's. Raises UnknownRoute or StatsUnavailable."""
        self._check_open(self._closed)
        if module is not None:
            check_module(self._catalog, module)
        figures = await self._transport.queues(checked_seconds("timeout", timeout))
        stats = [read_stats(queue, self._names, self._catalog) for queue in figures]
        return [queue for queue in stats if module is None or queue.module == module]

    async def ping(self, *, timeout: float = 5.0) -> None:
        """Get an answer from the broker on each connection, for a health check. Raises NotConnected."""
        self._check_open(self._closing)
        await self._transport.ping(checked_seconds("timeout", timeout))

    async def run(self, *, timeout: float = 30.0) -> None:
        """Handle messages until SIGTERM, SIGINT or `close`, then close as `close(timeout)`.

        Call it in the main thread. Until it returns, further signals have no effect.
        """
        timeout = checked_patience("timeout", timeout)
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as handlers:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task
                    handlers.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
                    loop.add_signal_handler(number, self._ending.set)
                    handlers.callback(loop.remove_signal_handler, number)
            await self._ending.wait()
            await self.close(timeout)

    def _source(self, module: str, action: str, handler_timeout: float | None, model: Any) -> Source:
        self._check_open(self._closing)
        check_route(self._catalog, module, action)
        if self._learned is not None:
            self._learned.consumes(module, action)
        lease = 3_600.0 if handler_timeout is None else handler_timeout + 30.0
        return Source(
            self._transport,
            self._names,
            self._catalog,
            module,
            action,
            self._idempotency,
            lease,
            self._max_bytes,
            checked_model(model),
            None if self._learned is None and self._recorder is None else self._consumed,
        )

    def _consumed(self, note: Consumed) -> None:
        """Note the end of an attempt to handle a message. It never raises."""
        if self._recorder is not None and self._recorder.takes(note.message_id):
            self._recorder.writer.note(note)
        if self._learned is not None:
            self._learned.became(note)

    def _checked_prefetch(self, prefetch: int | None, concurrency: int) -> int:
        chosen = self._prefetch if prefetch is None else checked_count("prefetch", prefetch, _MAX_PREFETCH)
        return max(chosen, concurrency)

    @staticmethod
    def _check_open(closed: bool) -> None:
        if closed:
            raise NotConnected("the client is closed", remedy="Connect a new one")

    async def close(self, timeout: float = 30.0) -> None:
        """Stop all consumers, let handlers finish for `timeout` seconds, and disconnect. Safe to call twice.

        Handlers can still send until they have finished.
        """
        timeout = checked_patience("timeout", timeout)
        if self._closing:
            return
        self._closing = True
        self._ending.set()
        try:
            await asyncio.gather(
                *(consumer.stop(timeout) for consumer in self._consumers), *(stream.close() for stream in self._streams)
            )
            self._closed = True
            self._reach.close()
            if self._auditor is not None:
                await self._auditor.close()
            if self._ready and self._learned is not None:
                await self._learned.close()
            if self._recorder is not None:
                await self._recorder.writer.close()
            if self._idempotency is not None:
                await self._idempotency.close()
        finally:
            self._closed = True
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _learned(router: Router | None) -> LearnedRouter | None:
    if router is None:
        return None
    from kryonix.messaging.learned import LearnedRouter  # not earlier: most applications have none

    return router if isinstance(router, LearnedRouter) else None
