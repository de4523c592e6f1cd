"""One module's side of a client: its actions typed, its priority by default."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kryonix.messaging.consuming.consumer import Consumer, Handler
from kryonix.messaging.consuming.stream import Stream
from kryonix.messaging.message import Device, SendResult

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

    async def send(
        self,
        action: Action,
        data: Any,
        *,
        priority: int | None = None,
        device: Device = "unknown",
        message_id: str | None = None,
        expires: timedelta | float | None = None,
        headers: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> SendResult:
        """As `MessagingClient.send`, with this module's own priority where none is given."""
        return await self._client.send(
            self._module,
            cast(Any, action),
            data,
            priority=self.priority if priority is None else priority,
            device=device,
            message_id=message_id,
            expires=expires,
            headers=headers,
            timeout=timeout,
        )

    async def consume(
        self,
        action: Action,
        handler: Handler,
        *,
        concurrency: int = 10,
        prefetch: int | None = None,
        handler_timeout: float | None = 60.0,
        timeout: float = 10.0,
    ) -> Consumer:
        """As `MessagingClient.consume`."""
        return await self._client.consume(
            self._module,
            cast(Any, action),
            handler,
            concurrency=concurrency,
            prefetch=prefetch,
            handler_timeout=handler_timeout,
            timeout=timeout,
        )

    def stream(self, action: Action, *, prefetch: int | None = None, timeout: float = 10.0) -> Stream:
        """As `MessagingClient.stream`."""
        return self._client.stream(self._module, cast(Any, action), prefetch=prefetch, timeout=timeout)
