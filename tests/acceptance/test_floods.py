"""A tenant floods the broker with its own credentials: the other tenant keeps working."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from multiprocessing import get_context
from typing import Any, Final

import aio_pika
import docker
import pytest
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

from tests.support.amqp import Application, publish
from tests.support.project import Project, tenant

FLOOD_S: Final = 10
CONNECTIONS: Final = 10
LARGE: Final = b"x" * (15 * 1024 * 1024)
QUEUE: Final = "crm.leads.create"

Flood = Callable[[Application, float], Coroutine[None, None, None]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    both = (tenant(id, "crm", "whatsapp", "agendamento", plan="basic") for id in ("flooder", "neighbour"))
    project = Project.platform(tmp_path_factory.mktemp("floods") / "project", *both)
    project.configure(brokerMemoryMb=2048)  # the default: half of it doesn't always come down below its bound by itself
    with project.running():
        yield project


def condition(own: Project) -> tuple[str, bool, int]:
    """When the broker's container was started, whether it was killed for memory, and how often it was restarted."""
    client = docker.from_env()
    attributes = client.containers.get(f"kryonix-{own.stack}-rabbitmq").attrs
    client.close()
    return attributes["State"]["StartedAt"], attributes["State"]["OOMKilled"], attributes["RestartCount"]


async def large_bodies(flooder: Application, until: float) -> None:
    """Publish large bodies to every queue, without waiting for confirms, on as many connections as the plan has.

    In a process that is killed at the end: closing a connection waits for a broker that no longer reads from it.
    """
    process = get_context("spawn").Process(target=_publish_until_killed, args=(flooder,))
    process.start()
    try:
        await asyncio.sleep(until - time.monotonic())
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def _publish_until_killed(flooder: Application) -> None:
    keys = [f"{queue.removeprefix(flooder.name() + '.')}.low" for queue in flooder.queues() if queue.count(".") > 2]

    async def one(number: int) -> None:
        while True:
            with suppress(AMQPError, OSError, RuntimeError):
                await _publish_blindly(await flooder.account.connect(), flooder.name(), keys[number:])
            await asyncio.sleep(0.2)

    async def all_at_once() -> None:
        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))

    asyncio.run(all_at_once())


async def _publish_blindly(connection: AbstractConnection, exchange: str, keys: list[str]) -> None:
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        target = await channel.get_exchange(exchange, ensure=False)
        while True:
            for key in keys:
                await target.publish(aio_pika.Message(LARGE, delivery_mode=2), key)


async def unacknowledged(flooder: Application, until: float) -> None:
    """Consume all queues on all connections without a prefetch, and acknowledge nothing."""

    async def keep(message: object) -> None:
        await asyncio.sleep(until - time.monotonic())

    async with AsyncExitStack() as connections:
        for _ in range(CONNECTIONS):
            with suppress(AMQPError):
                connection = await connections.enter_async_context(await flooder.account.connect())
                for queue in flooder.queues()[:9]:
                    if queue != flooder.name("unrouted"):
                        channel = await connection.channel()
                        await (await channel.get_queue(queue, ensure=False)).consume(keep)
        await asyncio.sleep(max(0, until - time.monotonic()))


async def large_gets(flooder: Application, until: float) -> None:
    """Ask for whole queues by HTTP, many at a time, as each of the tenant's users. Every one has to be refused."""
    body = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "base64"}
    names = [queue for queue in flooder.queues() if queue.count(".") > 2]

    def ask(number: int) -> set[int]:
        statuses = set()
        while time.monotonic() < until:
            account = (flooder.account, flooder.stats)[number % 2]
            answer = account.call("POST", "queues", flooder.vhost, names[number % len(names)], "get", json=body)
            statuses.add(answer.status_code)
        return statuses

    with ThreadPoolExecutor(4 * CONNECTIONS) as asking:
        answers = await asyncio.to_thread(lambda: list(asking.map(ask, range(4 * CONNECTIONS))))
    assert set().union(*answers) == {401}


async def neighbour_goes_on(neighbour: Application, within_s: float = 300) -> None:
    """Wait until the neighbour has a message confirmed: not before the broker's memory is below its bound again."""
    async with asyncio.timeout(within_s), neighbour.account.channel() as channel:
        await publish(channel, neighbour.name(), f"{QUEUE}.low")


@pytest.mark.parametrize("flood", [large_bodies, unacknowledged, large_gets])
def test_a_flood_by_one_tenant_leaves_others_working(own: Project, flood: Flood) -> None:
    outputs: dict[str, Any] = own.outputs()
    flooder, neighbour = (Application.of(outputs, id) for id in ("flooder", "neighbour"))
    before = condition(own)
    asyncio.run(flood(flooder, time.monotonic() + FLOOD_S))
    asyncio.run(neighbour_goes_on(neighbour))
    assert condition(own) == before
    assert asyncio.run(neighbour.holding()) == {QUEUE: 1}
    asyncio.run(neighbour.empty())
