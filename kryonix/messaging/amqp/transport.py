"""The transport over AMQP: one connection to publish, one to consume, so that a broker that holds back publishers
never holds back answers; each is opened when it is first needed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel

from kryonix.messaging.amqp.delivery import Unanswered
from kryonix.messaging.amqp.failures import BROKEN, told_apart
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.management import queue_figures
from kryonix.messaging.amqp.publisher import Publisher
from kryonix.messaging.amqp.subscription import AmqpSubscription
from kryonix.messaging.configuration import Address
from kryonix.messaging.consuming.ahead import DAY
from kryonix.messaging.errors import AccessRefused, NotConnected
from kryonix.messaging.message import Envelope
from kryonix.messaging.transport import Delivery

__all__ = ["AmqpTransport"]


class AmqpTransport:
    """A tenant's vhost on RabbitMQ."""

    def __init__(self, address: Address, name: str, ssl_context: ssl.SSLContext | None, heartbeat: int) -> None:
        self._address, self._name, self._ssl, self._heartbeat = address, name, ssl_context, heartbeat
        self._links: list[Link] = []
        self._unused: Link | None = None
        self._publisher: Publisher | None = None
        self._consuming: Link | None = None
        self._asking: AbstractChannel | None = None
        self._unanswered = Unanswered()
        self._lock = asyncio.Lock()
        self._questions = asyncio.Lock()

    async def open(self, timeout: float) -> None:
        self._unused = await self._link(timeout)

    async def _link(self, timeout: float) -> Link:
        """A link for a new purpose: the one that connect() opened, or one more."""
        if self._unused is not None:
            link, self._unused = self._unused, None
            return link
        link = Link(self._address, self._name, self._ssl, self._heartbeat)
        await link.open(timeout)
        self._links.append(link)
        return link

    @property
    def connected(self) -> bool:
        return bool(self._links) and all(link.connected for link in self._links)

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        publisher = self._publisher or await self._open_publisher(timeout)
        await publisher.publish(envelope, deadline - asyncio.get_running_loop().time())

    async def _open_publisher(self, timeout: float) -> Publisher:
        async with self._opening(timeout) as left:
            if self._publisher is None:
                self._publisher = Publisher(await self._link(left))
            return self._publisher

    @asynccontextmanager
    async def _opening(self, timeout: float) -> AsyncIterator[float]:
        """One opens a link at a time; who waits for another's does not wait longer than for its own. Yields the
        seconds that are left. Raises NotConnected."""
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._lock.acquire()
        except TimeoutError as error:
            raise NotConnected(f"no connection to {self._address.place} within {round(timeout, 3):g} s") from error
        try:
            yield deadline - asyncio.get_running_loop().time()
        finally:
            self._lock.release()

    async def subscribe(
        self,
        queues: Sequence[str],
        prefetch: int,
        deliver: Callable[[Delivery], None],
        timeout: float,
        answer_within: float = DAY,
    ) -> AmqpSubscription:
        deadline = asyncio.get_running_loop().time() + timeout
        async with self._opening(timeout) as left:
            if self._consuming is None:
                self._consuming = await self._link(left)
        subscription = AmqpSubscription(self._consuming, queues, prefetch, deliver, answer_within, self._unanswered)
        try:
            await subscription.open(deadline - asyncio.get_running_loop().time())
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def has_queue(self, queue: str, timeout: float) -> bool:
        """Ask by a passive declaration, which needs any permission on it, and closes its channel where it is not."""
        try:
            async with asyncio.timeout(timeout), self._questions:
                while True:
                    connection = await self._links[0].connection(timeout)
                    try:
                        with told_apart():
                            await self._declared(connection, queue)
                        return True
                    except amqp.ChannelNotFoundEntity:
                        return False
                    except amqp.ChannelAccessRefused as error:
                        raise AccessRefused(f"{self._address.username} may not ask for {queue}") from error
                    except BROKEN:
                        self._asking = None
                        await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise NotConnected(
                f"{self._address.place} did not say within {timeout:g} s whether it has {queue}"
            ) from error

    async def _declared(self, connection: AbstractConnection, queue: str) -> None:
        if self._asking is None or self._asking.is_closed:
            opened = await connection.channel(publisher_confirms=False)
            self._asking = await opened.get_underlay_channel()
        await self._asking.queue_declare(queue, passive=True)

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        return await queue_figures(self._address, timeout)

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links))
