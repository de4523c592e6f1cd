"""A broker that dies: on a platform of its own, because it is killed here."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import docker
import pytest
import yaml

from kryonix.messaging import (
    Batch,
    MemoryIdempotency,
    Message,
    MessagingClient,
    NotConnected,
    Outgoing,
    Retry,
    SendTimedOut,
    StatsUnavailable,
)
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.transport import Delivery
from kryonix.operations.errors import ServiceUnreachable
from kryonix.operations.redrive import Tally, redrive
from kryonix.topology.catalog import default_catalog, parse_catalog
from kryonix.topology.naming import Names
from tests.harness import Project, tenant
from tests.integration.messaging.conftest import CATALOG
from tests.seen import Seen, eventually

pytestmark = pytest.mark.anyio

MESSAGES = int(os.environ.get("KRYONIX_FAULT_MESSAGES", "100000"))
KILLS = 3


class Broker:
    """The platform's broker, as somebody who can pull its plug sees it."""

    def __init__(self, project: Project, uri_of_waits: str) -> None:
        self._docker = docker.from_env()
        self._container = self._docker.containers.get(f"kryonix-{project.stack}-rabbitmq")
        outputs = project.outputs()
        self.amqp_uri = outputs["tenants"]["fault"]["amqp_uri"]
        self.management_url = outputs["management_url"]
        self.uri_of_waits = uri_of_waits

    async def kill(self) -> None:
        await asyncio.to_thread(self.kill_now)

    def kill_now(self) -> None:
        self._container.kill("SIGKILL")

    async def start(self) -> None:
        await asyncio.to_thread(self._container.start)

    async def connect(self, **options: Any) -> MessagingClient:
        options = {"application": "fault", "management_url": self.management_url, "timeout": 120, **options}
        return await MessagingClient.connect(options.pop("amqp_uri", self.amqp_uri), **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of its own, whose tenant has room for all messages of the test at once."""
    catalog = yaml.safe_load(CATALOG.read_text())
    catalog["plans"]["enterprise"]["scaling"]["max_queue_depth"] = 4 * MESSAGES
    made = Project.platform(
        tmp_path_factory.mktemp("faults") / "project",
        tenant("fault", "financeiro", "whitelabel"),
        catalogFile="catalog.yaml",
    )
    made.write("catalog.yaml", yaml.safe_dump(catalog))
    catalog["retry"] |= {"strategy": "queues", "first_delay": "1s", "max_delay": "1s"}
    made.write("catalog-queues.yaml", yaml.safe_dump(catalog))
    try:
        made.must("up")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def broker(project: Project) -> Broker:
    """With one more tenant, which is there before any kill: its retries wait in queues."""
    waits = project.beside("tenant-waits", catalogFile="catalog-queues.yaml", tenant=tenant("waits", "whitelabel"))
    waits.must("up")
    return Broker(project, waits.outputs()["tenants"]["waits"]["amqp_uri"])


def publish_all(amqp_uri: str, messages: int) -> tuple[set[str], list[str]]:
    """In a process of its own, as a publisher is: the ids that were confirmed, and what the others failed with."""

    async def run() -> Batch:
        async with await MessagingClient.connect(amqp_uri, application="publisher") as client:
            outgoing = (
                Outgoing("financeiro", "faturas.create", {"n": number}, message_id=str(number))
                for number in range(messages)
            )
            return await client.send_many(outgoing, window=500, timeout=300)

    batch = asyncio.run(run())
    return {result.message_id for result in batch.sent}, [str(error) for _, error in batch.failed]


async def test_no_confirmed_message_is_lost_while_the_broker_is_killed_and_none_is_handled_twice(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    handled: Counter[str] = Counter()

    async def handle(message: Message) -> None:
        handled[message.message_id] += 1

    store = MemoryIdempotency(size=2 * MESSAGES)
    worker = await broker.connect(application="worker", idempotency=store)
    consumer = await worker.financeiro.consume("faturas.create", handle, concurrency=50, prefetch=500)
    began = time.monotonic()
    with ProcessPoolExecutor(1, get_context("spawn")) as publisher:
        sending = asyncio.wrap_future(publisher.submit(publish_all, broker.amqp_uri, MESSAGES))
        for kill in range(1, KILLS + 1):
            await eventually(lambda: len(handled) > MESSAGES * kill // (KILLS + 2), 300)  # noqa: B023
            await broker.kill()
            await asyncio.sleep(0.5)
            await broker.start()
        confirmed, failed = await sending
    took = time.monotonic() - began
    await eventually(lambda: confirmed <= handled.keys(), 300)
    await worker.close()

    with capsys.disabled():
        print(
            f"\n{MESSAGES:,} messages, {KILLS} kills: {len(confirmed):,} confirmed in {took:.0f} s, "
            f"{len(failed)} not, 0 lost, {consumer.duplicates} duplicates absorbed"
        )
    assert len(confirmed) == MESSAGES, failed[:3]
    assert set(handled.values()) == {1}
    assert await _left_over(broker) == 0


async def _left_over(broker: Broker) -> int:
    """Messages that ended as dead letters or unrouted."""
    names = Names("fault")
    async with await broker.connect() as client:
        return await _count(client, [names.dead_letter_queue("financeiro", "faturas.create"), names.unrouted])


async def _count(client: MessagingClient, queues: Sequence[str]) -> int:
    """How many messages come out of the queues; they go back in."""
    found: list[object] = []
    subscription = await client._transport.subscribe(queues, 100, found.append, 60)
    await asyncio.sleep(1)
    await subscription.close()
    return len(found)


async def _ids(client: MessagingClient, queue: str) -> list[str]:
    """The ids of all messages of a queue, taken out of it: none has come for a second."""
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    subscription = await client._transport.subscribe([queue], 100, arrived.put_nowait, 60)
    ids = []
    with suppress(TimeoutError):
        while True:
            delivery = await asyncio.wait_for(arrived.get(), 1)
            ids.append(delivery.envelope.message_id)
            await delivery.ack()
    await subscription.close()
    return ids


async def test_while_the_broker_is_away_nothing_hangs_and_when_it_is_back_everything_goes_on(broker: Broker) -> None:
    seen = Seen()
    client = await broker.connect()
    await client.whitelabel.consume("temas.processar", seen)
    await client.whitelabel.send("temas.processar", "before")
    await seen.wait(1, 60)
    await broker.kill()
    try:
        await eventually(lambda: not client.connected, 60)
        for call, error in (
            (client.whitelabel.send("temas.processar", "lost", timeout=0.5), (NotConnected, SendTimedOut)),
            (client.broadcast("lost", timeout=0.5), NotConnected),
            (client.whitelabel.consume("assets.otimizar", seen, timeout=0.5), NotConnected),
            (client.queue_stats(timeout=0.5), StatsUnavailable),
            (broker.connect(timeout=0.5), NotConnected),
        ):
            with pytest.raises(error):
                await asyncio.wait_for(call, 30)
        waiting = asyncio.create_task(client.whitelabel.send("temas.processar", "after", timeout=120))
        await asyncio.sleep(0.2)
    finally:
        await broker.start()
    await waiting
    await eventually(lambda: "after" in {message.data for message in seen.messages}, 120)
    await client.close()


async def test_closing_while_the_broker_is_away_does_not_hang(broker: Broker) -> None:
    client = await broker.connect()
    started = asyncio.Event()

    async def hang(message: Message) -> None:
        started.set()
        await asyncio.sleep(3600)

    await client.whitelabel.consume("branding.atualizar", hang)
    await client.whitelabel.send("branding.atualizar", {}, timeout=120)
    await started.wait()
    await broker.kill()
    try:
        await asyncio.wait_for(client.close(timeout=0.5), 60)
    finally:
        await broker.start()


async def test_with_retry_queues_a_killed_broker_loses_no_message_that_waits_for_its_next_attempt(
    project: Project, broker: Broker
) -> None:
    """Such a retry is two steps, a confirmed copy and an answer. Killed in between there are two; one is handled."""
    catalog = parse_catalog((project.folder / "catalog-queues.yaml").read_bytes(), "catalog-queues.yaml")
    tried: set[str] = set()
    done: Counter[str] = Counter()

    async def fail_once(message: Message) -> None:
        if message.message_id not in tried:
            tried.add(message.message_id)
            raise Retry
        done[message.message_id] += 1

    options = {"amqp_uri": broker.uri_of_waits, "catalog": catalog}
    async with await broker.connect(**options, idempotency=MemoryIdempotency()) as client:
        outgoing = [Outgoing("whitelabel", "temas.processar", {}, message_id=str(n)) for n in range(300)]
        (await client.send_many(outgoing, timeout=120)).raise_for_failed()
        consumer = await client.whitelabel.consume("temas.processar", fail_once, concurrency=20)
        # Not all have failed yet, and none of those that have is back before a second has passed.
        await eventually(lambda: len(tried) >= 100, 60)
        await broker.kill()
        await broker.start()
        await eventually(lambda: len(done) == 300, 120)
        assert set(done.values()) == {1}
        await consumer.stop()
    async with await broker.connect(**options) as client:
        names = Names("waits")
        dead = names.dead_letter_queue("whitelabel", "temas.processar")
        assert await _count(client, [dead, names.unrouted]) == 0


async def test_a_redrive_that_the_broker_is_killed_under_says_so_and_the_next_one_finishes_it(broker: Broker) -> None:
    route, total = ("whitelabel", "assets.otimizar"), 200
    names, address, catalog = Names("fault"), parse_uri(broker.amqp_uri), default_catalog()
    queue, dead = names.queue(*route), names.dead_letter_queue(*route)
    async with await broker.connect() as client:
        outgoing = [Outgoing(*route, {}, message_id=str(n), expires=0.05) for n in range(total)]
        (await client.send_many(outgoing, timeout=120)).raise_for_failed()
        while (await redrive(address, catalog, [route], None, True, lambda tally: None))[0].found < total:
            await asyncio.sleep(0.1)

        def kill_in_the_middle(tally: Tally) -> None:
            if tally.moved:
                broker.kill_now()

        with pytest.raises(ServiceUnreachable, match="Nothing is lost; run the same command again"):
            await redrive(address, catalog, [route], None, False, kill_in_the_middle)
        await broker.start()
        await eventually(lambda: client.connected, 120)
        await redrive(address, catalog, [route], None, False, lambda tally: None)
        ids = await _ids(client, queue)
        assert set(ids) == {str(number) for number in range(total)}
        assert len(ids) <= total + 32
        assert await _count(client, [dead]) == 0
