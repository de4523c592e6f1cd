"""The transport over AMQP: one connection to publish and one to consume, each opened when first needed.

When the broker throttles publishers, acknowledgements still get through on the other connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiormq import exceptions as amqp
from aiormq.abc import AbstractChannel

from kryonix.messaging.amqp.delivery import Unanswered
from kryonix.messaging.amqp.failures import BROKEN, not_connected, translate_amqp_errors
from kryonix.messaging.amqp.link import Link
from kryonix.messaging.amqp.publisher import Publisher
from kryonix.messaging.amqp.subscription import AmqpSubscription
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import AccessRefused, NotConnected
from kryonix.messaging.message import Envelope
from kryonix.messaging.stats import queue_figures
from kryonix.messaging.transport import Deliver


class AmqpTransport:
    """A tenant's vhost on RabbitMQ."""

    def __init__(self, address: Address, name: str, ssl_context: ssl.SSLContext | None, heartbeat: int) -> None:
        self._address, self._name, self._heartbeat = address, name, heartbeat
        self._ssl = ssl_context or address.trust()
        self._links: list[Link] = []
        self._unused: list[Link] = []
        self._publisher: Publisher | None = None
        self._consuming: Link | None = None
        self._question_channel: AbstractChannel | None = None
        self._unanswered = Unanswered()
        self._lock = asyncio.Lock()
        self._questions = asyncio.Lock()
        self._asking: asyncio.Timeout | None = None
        self.answers = 0

    async def open(self, timeout: float) -> None:
        self._unused = [await self._link(timeout)]

    async def _link(self, timeout: float) -> Link:
        """Return the unused link of connect(), or a new one."""
        if self._unused:
            return self._unused.pop()
        link = Link(self._address, self._name, self._ssl, self._heartbeat)
        await link.open(timeout)
        if not self._links:
            link.add(self)  # for the questions
        link.on_dead(self._suspect)
        self._links.append(link)
        return link

    def _suspect(self, node: Address) -> None:
        for link in self._links:
            link.suspect(node)

    @property
    def connected(self) -> bool:
        return bool(self._links) and all(link.connected for link in self._links)

    @property
    def server(self) -> tuple[str, int]:
        node = self._links[0].node if self._links else self._address
        return node.host, node.port

    @property
    def waiting(self) -> bool:
        return self._asking is not None

    async def ask(self) -> None:
        """Ask nothing: senders ask."""

    def lost(self) -> None:
        self._question_channel = None
        if self._asking is not None and not self._asking.expired():
            self._asking.reschedule(asyncio.get_running_loop().time())

    async def move(self) -> None:
        """Ask the next question over the new connection. One that is under way is asked again if it is cut off."""
        self._question_channel = None

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        if self._publisher is None:
            async with self._opening(timeout) as left:
                if self._publisher is None:
                    self._publisher = Publisher(await self._link(left))
        await self._publisher.publish(envelope, deadline)

    @asynccontextmanager
    async def _opening(self, timeout: float) -> AsyncIterator[float]:
        """Open one link at a time. Yield the seconds left. Raises NotConnected at the caller's own deadline."""
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
        self, queues: Sequence[str], prefetch: int, deliver: Deliver, timeout: float, answer_within: float
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
        """Ask with a passive declaration: it needs any permission on the queue. A missing queue closes the channel."""
        try:
            async with asyncio.timeout(timeout), self._questions:
                while True:
                    connection = await self._links[0].connection(timeout)
                    try:
                        async with asyncio.timeout(None) as self._asking:
                            with translate_amqp_errors():
                                if self._question_channel is None or self._question_channel.is_closed:
                                    self._question_channel = await connection.open_channel()
                                await self._question_channel.queue_declare(queue, passive=True)
                        self.answers += 1
                        return True
                    except amqp.ChannelNotFoundEntity:
                        return False
                    except amqp.ChannelAccessRefused as error:
                        problem = f"{self._address.username} has no permission to look for the queue {queue}"
                        remedy = "Check that the queue belongs to the tenant, and that the tenant is not suspended"
                        raise AccessRefused(problem, remedy=remedy) from error
                    except BROKEN:
                        self._question_channel = None
                        await asyncio.sleep(0.05)
                    finally:
                        self._asking = None
        except TimeoutError as error:
            problem = f"{self._address.place} did not say within {round(timeout, 3):g} s whether it has {queue}"
            raise NotConnected(problem) from error

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        return await queue_figures(self._address, timeout, self._ssl)

    async def ping(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                for link in self._links:
                    connection = await link.connection(timeout)
                    with translate_amqp_errors():
                        await (await connection.open_channel()).close()
        except TimeoutError as error:
            raise NotConnected(f"{self._address.place} did not answer within {timeout:g} s") from error
        except BROKEN as error:
            raise not_connected(self._address, error) from error

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links))
