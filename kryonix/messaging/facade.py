"""The typed view of one module, and the options of a client and a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, cast

from kryonix.messaging.audit import AuditSink
from kryonix.messaging.consuming.consumer import Consumer, Data, Handler, Model
from kryonix.messaging.consuming.stream import Stream
from kryonix.messaging.encoding import Compression
from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import SendOptions, SendResult
from kryonix.messaging.outcomes.recorder import Outcomes
from kryonix.messaging.routing import Router
from kryonix.topology.catalog import Catalog

if TYPE_CHECKING:
    from kryonix.messaging.client import MessagingClient

Action = TypeVar("Action", bound=str)


class ClientOptions(TypedDict, total=False):
    """Options of a client. See `MessagingClient` for their meaning and defaults."""

    catalog: Catalog | None
    prefetch: int
    router: Router | None
    router_timeout: float
    compression: Compression | None
    audit: AuditSink | None
    outcomes: Outcomes | None
    idempotency: IdempotencyStore | None
    max_bytes: int


class ConsumeOptions(TypedDict, total=False):
    """Options of a consumer. See `MessagingClient.consume` for their meaning and defaults."""

    concurrency: int
    prefetch: int | None
    handler_timeout: float | None
    timeout: float


class Facade(Generic[Action]):
    """Send and consume one module's messages: `client.crm.send("leads.create", data)`."""

    def __init__(self, client: MessagingClient, module: str, priority: int) -> None:
        self._client, self.module, self.priority = client, module, priority
        self._name: Any = module  # a custom catalog may have modules unknown to the types

    async def send(
        self, action: Action, data: Any, *, timeout: float = 10.0, **options: Unpack[SendOptions]
    ) -> SendResult:
        """Send as `MessagingClient.send`. Default priority: the module's."""
        options.setdefault("priority", self.priority)
        return await self._client.send(self._name, cast(Any, action), data, timeout=timeout, **options)

    async def consume(
        self, action: Action, handler: Handler[Data], *, model: Model[Data] = None, **options: Unpack[ConsumeOptions]
    ) -> Consumer:
        """Consume as `MessagingClient.consume`."""
        return await self._client.consume(self._name, cast(Any, action), handler, model=model, **options)

    def stream(
        self, action: Action, *, model: Model[Data] = None, prefetch: int | None = None, timeout: float = 10.0
    ) -> Stream[Data]:
        """Stream as `MessagingClient.stream`."""
        return self._client.stream(self._name, cast(Any, action), model=model, prefetch=prefetch, timeout=timeout)
