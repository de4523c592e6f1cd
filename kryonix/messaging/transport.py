"""The seam between the SDK and a broker: RabbitMQ over AMQP, or the one in memory that users test with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kryonix.messaging.message import Envelope

__all__ = ["Delivery", "Subscription", "Transport"]


class Delivery(Protocol):
    """A message that a queue has handed out and waits for an answer to."""

    @property
    def envelope(self) -> Envelope: ...

    @property
    def queue(self) -> str: ...

    @property
    def lost(self) -> bool:
        """Whether answers reach nobody: the queue delivers the message again. What is not begun must not be, then."""

    def begin(self) -> None:
        """Take it in hand. Lost later, it gets its answer when it comes again to this client."""

    async def ack(self) -> None: ...

    async def reject(self, *, requeue: bool) -> None:
        """Refuse it: requeued it counts as a failure, else it is a dead letter."""

    async def give_back(self) -> None:
        """Return it as if it had never been delivered."""


class Subscription(Protocol):
    """A consumer of some queues that is renewed by itself after a broken connection."""

    async def cancel(self) -> None:
        """No more deliveries; those handed out can still be answered."""

    async def close(self) -> None: ...


class Transport(Protocol):
    """What the SDK needs of a broker. All timeouts are seconds."""

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        """Publish and wait for the confirmation. Raises NotConnected, NotRoutable, QueueFull or SendTimedOut."""

    async def has_queue(self, queue: str, timeout: float) -> bool: ...

    async def subscribe(
        self,
        queues: Sequence[str],
        prefetch: int,
        deliver: Callable[[Delivery], None],
        timeout: float,
        answer_within: float = ...,
    ) -> Subscription:
        """Consume, `prefetch` messages of each queue ahead. Each is answered within `answer_within` seconds."""

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        """What the management API says of each queue of the vhost."""

    @property
    def connected(self) -> bool: ...

    async def close(self) -> None: ...
