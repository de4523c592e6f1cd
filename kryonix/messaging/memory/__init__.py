"""An in-memory broker for tests of applications: one tenant's vhost, with the platform's topology and policies."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Unpack

from kryonix.messaging.checks import checked_patience
from kryonix.messaging.client import MessagingClient
from kryonix.messaging.errors import ConfigurationError, NotConnected, NotRoutable, QueueFull
from kryonix.messaging.facade import ClientOptions
from kryonix.messaging.memory.queue import MemoryQueue, Reason
from kryonix.messaging.message import RECEIVED_HEADER, Envelope
from kryonix.messaging.transport import Deliver
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.errors import InvalidInput
from kryonix.topology.expansion import expand
from kryonix.topology.naming import Names
from kryonix.topology.objects import Exchange, Queue, effective_policy
from kryonix.topology.tenants import parse_tenants

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """A broker for tests, without a service or a network. Use it in one event loop.

    `modules` are the tenant's modules. Default: the whole catalog. `delay` scales all waiting times: with 0.01 a retry
    after one second comes after ten milliseconds. Raises ConfigurationError for an invalid tenant.
    """

    def __init__(
        self,
        tenant: str = "memory",
        *,
        modules: Sequence[str] | None = None,
        plan: str = "enterprise",
        catalog: Catalog | None = None,
        delay: float = 1.0,
    ) -> None:
        self.catalog = catalog or default_catalog()
        # Checked like an entry of `tenants.yaml`.
        entry = {"id": tenant, "modules": list(self.catalog.modules if modules is None else modules), "plan": plan}
        document = json.dumps({"tenants": [entry]}, default=str).encode()
        try:
            (checked,) = parse_tenants(document, "MemoryBroker", self.catalog)
        except InvalidInput as error:
            raise ConfigurationError(str(error), remedy="Pass a tenant that tenants.yaml accepts") from error
        topology = expand(checked, self.catalog)
        delay = checked_patience("delay", delay)
        self.names = Names(tenant)
        self._exchanges = {exchange.name: exchange for exchange in topology.exchanges}
        self._bindings = topology.bindings
        self.queues = {
            queue.name: MemoryQueue(queue, effective_policy(queue.name, topology.policies), delay, self._dead_letter)
            for queue in topology.queues
        }
        self.up = asyncio.Event()
        self.up.set()

    async def connect(self, *, application: str = "test", **options: Unpack[ClientOptions]) -> MessagingClient:
        """Return a client of this broker. The options are those of MessagingClient."""
        options.setdefault("catalog", self.catalog)
        client = MessagingClient(MemoryTransport(self), self.names.tenant_id, application=application, **options)
        await client.ready()
        return client

    def messages(self, module: str, action: str) -> list[Envelope]:
        """Return the messages waiting in an action's queue, the next one first."""
        return self.queues[self.names.queue(module, action)].ready

    def dead_letters(self, module: str, action: str) -> list[Envelope]:
        """Return the messages in an action's dead-letter queue, the oldest first."""
        return self.queues[self.names.dead_letter_queue(module, action)].ready

    @property
    def unrouted(self) -> list[Envelope]:
        """Messages without a queue."""
        return self.queues[self.names.unrouted].ready

    def go_away(self) -> None:
        """Be unreachable until `come_back`: sends wait, and raise NotConnected at their deadline."""
        self.up.clear()

    def come_back(self) -> None:
        """Be reachable again."""
        self.up.set()

    def close(self) -> None:
        """Cancel all timers."""
        for queue in self.queues.values():
            queue.close()

    async def reachable(self, timeout: float) -> None:
        """Wait for the broker. Raises NotConnected after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.up.wait()
        except TimeoutError as error:
            raise NotConnected(f"no connection to the memory broker within {timeout:g} s") from error

    def publish(self, envelope: Envelope) -> None:
        """Put a message into every queue it is routed to. Raises NotRoutable or QueueFull."""
        if envelope.exchange not in self._exchanges:
            raise NotRoutable(f"there is no exchange {envelope.exchange}")
        queues = self._route(envelope.exchange, envelope.routing_key)
        full = [queue for queue in queues if queue.full]
        headers = {RECEIVED_HEADER: time.time_ns() // 1_000_000, **envelope.headers}
        for queue in queues:
            if queue not in full:
                queue.put(replace(envelope, headers=dict(headers)))
        if full:
            raise QueueFull(f"the queue of {envelope.routing_key} is full")

    def _route(self, exchange: str, key: str) -> list[MemoryQueue]:
        if exchange == "":
            return [self.queues[key]] if key in self.queues else []
        spec = self._exchanges[exchange]
        bound = [b.destination for b in self._bindings if b.source == exchange and _matches(spec, b.routing_key, key)]
        alternate = spec.arguments.get("alternate-exchange")
        if not bound and alternate is not None:
            return self._route(str(alternate), key)
        return [self.queues[name] for name in dict.fromkeys(bound)]

    def _dead_letter(self, queue: Queue, envelope: Envelope, reason: Reason) -> None:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return
        key = str(queue.arguments.get("x-dead-letter-routing-key", envelope.routing_key))
        headers = {k: v for k, v in envelope.headers.items() if k not in ("x-delivery-count", "x-acquired-count")}
        death = {
            "queue": queue.name,
            "reason": reason,
            "exchange": envelope.exchange,
            "routing-keys": [envelope.routing_key],
            "count": 1,
            "time": datetime.now(UTC),
        }
        headers["x-death"] = [death, *headers.get("x-death", [])]
        moved = replace(envelope, exchange=str(exchange), routing_key=key, headers=headers, expiration=None)
        for target in self._route(moved.exchange, key):
            target.put(moved)


def _matches(exchange: Exchange, pattern: str, key: str) -> bool:
    if exchange.type == "fanout":
        return True
    if exchange.type == "direct":
        return pattern == key
    parts = [r"[^.]+" if word == "*" else re.escape(word) for word in pattern.split(".")]
    return re.fullmatch(r"\.".join(parts), key) is not None


class MemorySubscription:
    """A consumer of some queues. Closing it returns unanswered messages, like a lost connection."""

    def __init__(self, queues: Sequence[MemoryQueue], prefetch: int, deliver: Deliver) -> None:
        self._reading = [(queue, queue.read(deliver, prefetch)) for queue in queues]

    async def cancel(self) -> None:
        for queue, reader in self._reading:
            queue.stop_reading(reader)

    async def close(self) -> None:
        await self.cancel()
        for _, reader in self._reading:
            for delivery in list(reader.unanswered):
                await delivery.reject(requeue=True)


class MemoryTransport:
    """The transport to an in-memory broker."""

    server = None

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    @property
    def connected(self) -> bool:
        return self._broker.up.is_set()

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        await self._broker.reachable(timeout)
        self._broker.publish(envelope)
        await asyncio.sleep(0)

    async def has_queue(self, queue: str, timeout: float) -> bool:
        await self._broker.reachable(timeout)
        return queue in self._broker.queues

    async def subscribe(
        self, queues: Sequence[str], prefetch: int, deliver: Deliver, timeout: float, answer_within: float
    ) -> MemorySubscription:
        await self._broker.reachable(timeout)
        if not self._broker.queues.keys() >= set(queues):
            raise NotRoutable(f"there is no queue {' or '.join(queues)}")
        return MemorySubscription([self._broker.queues[queue] for queue in queues], prefetch, deliver)

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        await self._broker.reachable(timeout)
        return [
            {
                "name": queue.name,
                "messages": len(queue.ready) + queue.unacked + queue.delayed,
                "messages_ready": len(queue.ready) + queue.delayed,
                "messages_unacknowledged": queue.unacked,
                "consumers": queue.consumers,
            }
            for queue in self._broker.queues.values()
        ]

    async def ping(self, timeout: float) -> None:
        await self._broker.reachable(timeout)

    async def close(self) -> None: ...
