"""One module's side of a client: its actions typed, its priority by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast

from kryonix.messaging.consuming.consumer import Consumer, Handler
from kryonix.messaging.consuming.stream import Stream
from kryonix.messaging.message import SendResult
from kryonix.messaging.options import ConsumeOptions, SendOptions

if TYPE_CHECKING:
    from kryonix.messaging.client import MessagingClient

__all__ = ["Facade"]

Action = TypeVar("Action", bound=str)


class Facade(Generic[Action]):
    """Sends and consumes one module's messages: `client.crm.send("leads.create", data)`."""

    def __init__(self, client: MessagingClient, module: str, priority: int) -> None:
        self._client, self.module, self.priority = client, module, priority
        # A catalog of your own may have modules that the types do not know: the client checks names when it runs.
        self._module: Any = module

    async def send(self, action: Action, data: Any, **options: Unpack[SendOptions]) -> SendResult:
        """As `MessagingClient.send`, with this module's own priority where none is given."""
        options.setdefault("priority", self.priority)
        return await self._client.send(self._module, cast(Any, action), data, **options)

    async def consume(self, action: Action, handler: Handler, **options: Unpack[ConsumeOptions]) -> Consumer:
        """As `MessagingClient.consume`."""
        return await self._client.consume(self._module, cast(Any, action), handler, **options)

    def stream(self, action: Action, *, prefetch: int | None = None, timeout: float = 10.0) -> Stream:
        """As `MessagingClient.stream`."""
        return self._client.stream(self._module, cast(Any, action), prefetch=prefetch, timeout=timeout)
