"""The interface between the SDK and a broker: RabbitMQ over AMQP, or the in-memory broker for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from kryonix.messaging.message import Envelope

ANSWER_WITHIN_S: Final = 86_400.0
"""The minimum time the broker waits for an answer. A dead consumer is noticed far sooner, by its connection."""


class Delivery(Protocol):
    """A message delivered from a queue, waiting for its answer."""

    @property
    def envelope(self) -> Envelope: ...

    @property
    def queue(self) -> str: ...

    @property
    def lost(self) -> bool:
        """True if the channel has ended: the broker delivers the message again. Do not begin a lost delivery."""

    def begin(self) -> None:
        """Start handling. If the channel ends meanwhile, the next delivery to this client gets the same answer."""

    async def ack(self) -> None: ...

    async def reject(self, *, requeue: bool) -> None:
        """Refuse the message: requeued it counts as a failure, otherwise it becomes a dead letter."""

    async def give_back(self) -> None:
        """Return the message as if it had never been delivered."""


Deliver = Callable[[Delivery], None]


class Subscription(Protocol):
    """A consumer of some queues, renewed automatically after a lost connection."""

    async def cancel(self) -> None:
        """Stop deliveries. Earlier ones can still be answered."""

    async def close(self) -> None: ...


class Transport(Protocol):
    """The operations the SDK needs from a broker. All timeouts are seconds."""

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        """Publish and wait for the confirmation. Raises NotConnected, NotRoutable, QueueFull or SendTimedOut."""

    async def has_queue(self, queue: str, timeout: float) -> bool: ...

    async def subscribe(
        self, queues: Sequence[str], prefetch: int, deliver: Deliver, timeout: float, answer_within: float
    ) -> Subscription:
        """Consume, with `prefetch` messages of each queue, each answered within `answer_within` seconds."""

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        """Return the management API's figures of each queue of the vhost."""

    async def ping(self, timeout: float) -> None:
        """Get an answer on every connection. Raises NotConnected."""

    @property
    def connected(self) -> bool: ...

    @property
    def server(self) -> tuple[str, int] | None:
        """The broker's host and port, if it has any."""

    async def close(self) -> None: ...
