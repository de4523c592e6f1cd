"""Four ways to do the same messaging: the SDK, the SDK with a model, bare aio-pika, and pika."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from tempfile import NamedTemporaryFile
from typing import Any, Self

import aio_pika
import pika
from aio_pika.abc import AbstractConnection, AbstractExchange, AbstractIncomingMessage
from pika.adapters.asyncio_connection import AsyncioConnection

from kryonix import __version__
from kryonix.messaging import LearnedRouter, Message, MessagingClient, Outgoing
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.outcomes.recorder import shapes_of
from kryonix.routing.known import Known
from kryonix.routing.learned import Errors
from kryonix.routing.model import write_model
from kryonix.routing.policy import HIGHEST, LEVELS, Index, Policy
from kryonix.topology.naming import Names
from kryonix.training.spreads import usual
from kryonix.training.training import train
from tests.support.worlds import RECIPES, make, played

MODULE, ACTION = "portal", "interacoes.track"
WINDOW, PREFETCH, CONCURRENCY = 256, 100, 10
DATA = {"text": "x" * 1000, "n": 1}


class Contender(ABC):
    """Each method handles `count` messages and returns the latency of each in seconds."""

    @classmethod
    @abstractmethod
    async def connect(cls, uri: str) -> Self: ...

    @abstractmethod
    async def pipelined(self, count: int) -> list[float]:
        """Publish with WINDOW confirmations on their way. Latency: from publish to confirmation."""

    async def send_many(self, count: int) -> list[float]:
        """Publish in the way made for many messages at once, with the same window."""
        return await self.pipelined(count)

    @abstractmethod
    async def one_by_one(self, count: int) -> list[float]:
        """Publish, each after the confirmation of the one before."""

    @abstractmethod
    async def consume(self, count: int) -> list[float]:
        """Take from the queue, decode, handle, acknowledge. Latency: from one message to the next."""

    async def close(self) -> None:  # noqa: B027  a contender may have nothing to close
        """Close what `connect` has opened."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class Gaps:
    """The times between messages, up to a number of messages."""

    def __init__(self, count: int) -> None:
        self._count, self._times = count, [time.perf_counter()]
        self.done = asyncio.Event()

    def note(self) -> None:
        self._times.append(time.perf_counter())
        if len(self._times) > self._count:
            self.done.set()

    @property
    def latencies(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self._times)]


def headers(tenant: str) -> dict[str, Any]:
    """Return the headers that the SDK adds to each message."""
    return {
        "cliente-id": tenant,
        "modulo": MODULE,
        "acao": ACTION,
        "mobile-optimized": False,
        "kryonix-sdk-version": __version__,
    }


class Coroutines(Contender):
    """A contender that sends by a coroutine: WINDOW of them at once, or one after the other."""

    @abstractmethod
    async def one(self) -> None:
        """Publish one message, and wait until it is confirmed."""

    async def pipelined(self, count: int) -> list[float]:
        latencies: list[float] = []

        async def work() -> None:
            while len(begun) < count:
                begun.append(True)
                latencies.append(await self._timed())

        begun: list[bool] = []
        await asyncio.gather(*(work() for _ in range(WINDOW)))
        return latencies

    async def one_by_one(self, count: int) -> list[float]:
        return [await self._timed() for _ in range(count)]

    async def _timed(self) -> float:
        began = time.perf_counter()
        await self.one()
        return time.perf_counter() - began


class Sdk(Coroutines):
    """This project's SDK."""

    def __init__(self, client: MessagingClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, uri: str) -> Self:
        return cls(await MessagingClient.connect(uri, application="benchmark"))

    async def one(self) -> None:
        await self._client.portal.send("interacoes.track", DATA)

    async def send_many(self, count: int) -> list[float]:
        begun: list[float] = []

        def messages() -> Iterator[Outgoing]:
            for _ in range(count):
                begun.append(time.perf_counter())
                yield Outgoing("portal", "interacoes.track", DATA)

        batch = await self._client.send_many(messages(), window=WINDOW)
        batch.raise_for_failed()
        # A message is begun when another one is confirmed: WINDOW messages later, to within a write.
        return [later - earlier for earlier, later in zip(begun, begun[WINDOW:], strict=False)]

    async def consume(self, count: int) -> list[float]:
        gaps = Gaps(count)

        async def handle(message: Message) -> None:
            gaps.note()

        consumer = await self._client.portal.consume(
            "interacoes.track", handle, concurrency=CONCURRENCY, prefetch=PREFETCH
        )
        await gaps.done.wait()
        await consumer.stop()
        return gaps.latencies

    async def close(self) -> None:
        await self._client.close()


@cache
def trained(tenant: str) -> bytes:
    """Return a model of full size that gives each message of the benchmark the rules' priority, and finds it usual."""
    model = train(played(make(RECIPES["kinds"], messages=4_000))).model
    sent = Known(MODULE, ACTION, 0.0, "", len(json.dumps(DATA)), "unknown", shapes_of(None, tenant).of(DATA), 5, None)
    (learned,) = model.actions.values()
    learned = replace(
        learned,
        policy=Policy(Index(0.0, 0.0), (-1.0,) * (HIGHEST - 5) + (1.0,) * (LEVELS + 5 - HIGHEST)),
        usual=usual([sent] * 1_000),
        errors=Errors(time=10.0, left=10.0),
    )
    return write_model(replace(model, actions={f"{MODULE}.{ACTION}": learned}))[0]


class Learned(Sdk):
    """The SDK with a model that decides. It gives the priority of the rules: the broker's work is the same."""

    _router: LearnedRouter

    @classmethod
    async def connect(cls, uri: str) -> Self:
        with NamedTemporaryFile(suffix=".json") as file:
            file.write(trained(parse_uri(uri).tenant_id))
            file.flush()
            router = LearnedRouter(file.name, mode="on", refresh=3_600)
            client = await MessagingClient.connect(uri, application="benchmark", router=router)
        if (status := router.status()).unusable or status.version is None:
            raise RuntimeError(f"the benchmark's model is not used: {status.unusable}")
        made = cls(client)
        made._router = router
        return made

    async def close(self) -> None:
        await super().close()
        if problems := self._router.status().problem:
            raise RuntimeError(f"the benchmark's model was given up: {problems}")


class BareAioPika(Coroutines):
    """aio-pika as in its documentation, with the SDK's work for each message done by hand."""

    def __init__(self, connection: AbstractConnection, exchange: AbstractExchange, tenant: str) -> None:
        self._connection, self._exchange, self._tenant = connection, exchange, tenant
        self._names = Names(tenant)

    @classmethod
    async def connect(cls, uri: str) -> Self:
        tenant = parse_uri(uri).tenant_id
        connection = await aio_pika.connect(uri)
        channel = await connection.channel(on_return_raises=True)
        return cls(connection, await channel.get_exchange(Names(tenant).exchange, ensure=False), tenant)

    async def one(self) -> None:
        message = aio_pika.Message(
            json.dumps(DATA).encode(),
            message_id=uuid.uuid4().hex,
            headers=headers(self._tenant),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            priority=5,
            content_type="application/json",
            timestamp=datetime.now(UTC),
            app_id="benchmark",
        )
        await self._exchange.publish(message, self._names.routing_key(MODULE, ACTION, "medium"), timeout=10)

    async def consume(self, count: int) -> list[float]:
        gaps = Gaps(count)

        async def handle(data: Any) -> None:
            gaps.note()

        async def receive(message: AbstractIncomingMessage) -> None:
            await handle(json.loads(message.body))
            await message.ack()

        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(self._names.queue(MODULE, ACTION), ensure=False)
        tag = await queue.consume(receive)
        await gaps.done.wait()
        await queue.cancel(tag)
        await channel.close()
        return gaps.latencies

    async def close(self) -> None:
        await self._connection.close()


class Pika(Contender):
    """pika as its documentation recommends: the asyncio adapter to pipeline, the blocking one for the rest."""

    def __init__(self, uri: str) -> None:
        self._parameters = pika.URLParameters(uri)
        self._tenant = parse_uri(uri).tenant_id
        self._names = Names(self._tenant)
        self._blocking = pika.BlockingConnection(self._parameters)
        self._ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """The asyncio adapter's channel."""
        self._confirmed: Callable[[Any, Any], None] = lambda channel, frame: None
        AsyncioConnection(self._parameters, lambda connection: connection.channel(on_open_callback=self._opened))

    @classmethod
    async def connect(cls, uri: str) -> Self:
        made = cls(uri)
        await made._ready
        return made

    def _opened(self, channel: Any) -> None:
        self._last = 0
        """The delivery tag of the last message."""
        channel.confirm_delivery(
            lambda frame: self._confirmed(channel, frame), lambda _: self._ready.set_result(channel)
        )

    async def close(self) -> None:
        self._ready.result().connection.close()
        self._blocking.close()

    def _publish(self, channel: Any) -> None:
        properties = pika.BasicProperties(
            message_id=uuid.uuid4().hex,
            headers=headers(self._tenant),
            delivery_mode=2,
            priority=5,
            content_type="application/json",
            timestamp=int(time.time()),
            app_id="benchmark",
        )
        key = self._names.routing_key(MODULE, ACTION, "medium")
        channel.basic_publish(self._names.exchange, key, json.dumps(DATA).encode(), properties, mandatory=True)

    async def pipelined(self, count: int) -> list[float]:
        waiting: dict[int, float] = {}
        latencies: list[float] = []
        last = self._last + count
        done = asyncio.get_running_loop().create_future()

        def more(channel: Any) -> None:
            while len(waiting) < WINDOW and self._last < last:
                self._last += 1
                waiting[self._last] = time.perf_counter()
                self._publish(channel)

        def confirmed(channel: Any, frame: Any) -> None:
            now, latest = time.perf_counter(), frame.method.delivery_tag
            tags = [tag for tag in waiting if tag <= latest] if frame.method.multiple else [latest]
            latencies.extend(now - waiting.pop(tag) for tag in tags)
            more(channel)
            if len(latencies) == count and not done.done():
                done.set_result(None)

        self._confirmed = confirmed
        more(self._ready.result())
        await done
        return latencies

    async def one_by_one(self, count: int) -> list[float]:
        return await asyncio.to_thread(self._one_by_one, count)

    def _one_by_one(self, count: int) -> list[float]:
        channel = self._blocking.channel()
        channel.confirm_delivery()
        latencies = []
        for _ in range(count):
            began = time.perf_counter()
            self._publish(channel)
            latencies.append(time.perf_counter() - began)
        channel.close()
        return latencies

    async def consume(self, count: int) -> list[float]:
        return await asyncio.to_thread(self._consume, count)

    def _consume(self, count: int) -> list[float]:
        channel = self._blocking.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        gaps = Gaps(count)

        def receive(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            json.loads(body)
            channel.basic_ack(method.delivery_tag)
            gaps.note()
            if gaps.done.is_set():
                channel.stop_consuming()

        channel.basic_consume(self._names.queue(MODULE, ACTION), receive)
        channel.start_consuming()
        channel.close()
        return gaps.latencies
