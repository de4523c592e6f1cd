"""Broker kills, on a platform of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from typing import Any

import docker
import pytest
import yaml

from kryonix.errors import ServiceUnreachable
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
from kryonix.messaging.redrive import Tally
from kryonix.messaging.redrive.mover import redrive
from kryonix.messaging.transport import ANSWER_WITHIN_S, Delivery
from kryonix.topology.catalog import default_catalog, parse_catalog
from kryonix.topology.naming import Names
from tests.integration.messaging.conftest import CATALOG
from tests.support.amqp import administrator, ready
from tests.support.project import Project, tenant
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

MESSAGES = int(os.environ.get("KRYONIX_FAULT_MESSAGES", "100000"))
KILLS = 3


class Broker:
    """The platform's broker, which can be killed."""

    def __init__(self, project: Project, uri_of_waits: str) -> None:
        self._docker = docker.from_env()
        self._container = self._docker.containers.get(f"kryonix-{project.stack}-rabbitmq")
        self.outputs = outputs = project.outputs()
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
    with made.running():
        yield made


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


async def test_a_killed_broker_loses_and_repeats_no_message(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """Slow: 100,000 messages are sent, so that each kill hits some on every leg of their way."""
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
            await eventually_async(lambda: len(handled) > MESSAGES * kill // (KILLS + 2), 900)  # noqa: B023
            await broker.kill()
            await asyncio.sleep(0.5)
            await broker.start()
        confirmed, failed = await sending
    took = time.monotonic() - began
    await eventually_async(lambda: confirmed <= handled.keys(), 600)
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
        dead = await _count(client, [names.dead_letter_queue("financeiro", "faturas.create")])
    return dead + await _unrouted(broker, "fault")


async def _unrouted(broker: Broker, id: str) -> int:
    """Asked by the administrator: whether a tenant may read that queue is not the matter here."""
    async with administrator(broker.outputs, Names(id).vhost).channel() as channel:
        return await ready(channel, Names(id).unrouted)


async def _count(client: MessagingClient, queues: Sequence[str]) -> int:
    """How many messages come out of the queues; they go back in."""
    found: list[object] = []
    subscription = await client._transport.subscribe(queues, 100, found.append, 60, ANSWER_WITHIN_S)
    await asyncio.sleep(1)
    await subscription.close()
    return len(found)


async def _ids(client: MessagingClient, queue: str, wanted: Set[str]) -> list[str]:
    """The ids of all messages of a queue, taken out of it: once all that are wanted are there, none comes for 2 s."""
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    subscription = await client._transport.subscribe([queue], 100, arrived.put_nowait, 60, ANSWER_WITHIN_S)
    ids: list[str] = []
    with suppress(TimeoutError):
        while True:
            delivery = await asyncio.wait_for(arrived.get(), 2 if wanted <= set(ids) else 60)
            ids.append(delivery.envelope.message_id)
            await delivery.ack()
    await subscription.close()
    return ids


async def test_the_client_resumes_after_an_outage_without_hanging(broker: Broker) -> None:
    async def hang(message: Message) -> None:
        await asyncio.sleep(3600)

    seen, hanging = Seen(), Seen(hang)
    client, other = await broker.connect(), await broker.connect()
    await client.whitelabel.consume("temas.processar", seen)
    await other.whitelabel.consume("branding.atualizar", hanging)
    await client.whitelabel.send("temas.processar", "before")
    await client.whitelabel.send("branding.atualizar", {})
    await seen.wait(1, 60)
    await hanging.wait(1, 60)
    await broker.kill()
    try:
        await eventually_async(lambda: not client.connected, 60)
        for call, error in (
            (client.whitelabel.send("temas.processar", "lost", timeout=0.5), (NotConnected, SendTimedOut)),
            (client.broadcast("lost", timeout=0.5), NotConnected),
            (client.whitelabel.consume("assets.otimizar", seen, timeout=0.5), NotConnected),
            (client.ping(timeout=0.5), NotConnected),
            (client.queue_stats(timeout=0.5), StatsUnavailable),
            (broker.connect(timeout=0.5), NotConnected),
        ):
            with pytest.raises(error):
                await asyncio.wait_for(call, 30)
        given_up = asyncio.create_task(other.whitelabel.send("temas.processar", "lost", timeout=600))
        await asyncio.sleep(0.2)
        await asyncio.wait_for(other.close(timeout=0.5), 60)
        with pytest.raises((NotConnected, SendTimedOut)):
            await asyncio.wait_for(given_up, 30)
        waiting = asyncio.create_task(client.whitelabel.send("temas.processar", "after", timeout=120))
        await asyncio.sleep(0.2)
    finally:
        await broker.start()
    await waiting
    await eventually_async(lambda: "after" in {message.data for message in seen.messages}, 120)
    await client.ping(timeout=60)
    await client.close()


async def test_a_broker_killed_during_retries_and_redrive_loses_nothing(project: Project, broker: Broker) -> None:
    """Both move a message in two steps, a confirmed copy and an answer. Killed in between there are two of it."""
    async with _retrying(project, broker) as (tried, done), await broker.connect() as client:
        dead = await _made_dead(broker, client, 200)
        await eventually_async(lambda: len(tried) >= 100, 60)

        def kill_in_the_middle(tally: Tally) -> None:
            if tally.moved:
                broker.kill_now()

        with pytest.raises(ServiceUnreachable, match="Nothing is lost; run the same command again"):
            await _redrive(broker, kill_in_the_middle)
        await broker.start()
        await eventually_async(lambda: client.connected, 300)
        await _redrive(broker, lambda tally: None)
        ids = await _ids(client, Names("fault").queue(*DEAD), dead)
        assert (set(ids), len(ids) <= 200 + 32) == (dead, True)
        assert await _count(client, [Names("fault").dead_letter_queue(*DEAD)]) == 0

        await eventually_async(lambda: len(done) == 300, 300)
        assert set(done.values()) == {1}
    names = Names("waits")
    async with await broker.connect(amqp_uri=broker.uri_of_waits) as client:
        assert await _count(client, [names.dead_letter_queue("whitelabel", "temas.processar")]) == 0
    assert await _unrouted(broker, "waits") == 0


@asynccontextmanager
async def _retrying(project: Project, broker: Broker) -> AsyncIterator[tuple[set[str], Counter[str]]]:
    """A consumer at 300 messages, each of which fails once: the ids that were tried, and how often each was done."""
    catalog = parse_catalog((project.folder / "catalog-queues.yaml").read_bytes(), "catalog-queues.yaml")
    tried: set[str] = set()
    done: Counter[str] = Counter()

    async def fail_once(message: Message) -> None:
        if message.message_id not in tried:
            tried.add(message.message_id)
            raise Retry
        done[message.message_id] += 1

    uri = broker.uri_of_waits
    async with await broker.connect(amqp_uri=uri, catalog=catalog, idempotency=MemoryIdempotency()) as client:
        outgoing = [Outgoing("whitelabel", "temas.processar", {}, message_id=str(n)) for n in range(300)]
        (await client.send_many(outgoing, timeout=120)).raise_for_failed()
        await client.whitelabel.consume("temas.processar", fail_once, concurrency=20)
        yield tried, done


DEAD = ("whitelabel", "assets.otimizar")


async def _redrive(broker: Broker, report: Callable[[Tally], None], *, dry_run: bool = False) -> Tally:
    (tally,) = await redrive(parse_uri(broker.amqp_uri), default_catalog(), [DEAD], None, dry_run, report)
    return tally


async def _made_dead(broker: Broker, client: MessagingClient, count: int) -> set[str]:
    """The ids of so many dead letters."""
    outgoing = [Outgoing(*DEAD, {}, message_id=str(number), expires=0.05) for number in range(count)]
    (await client.send_many(outgoing, timeout=120)).raise_for_failed()

    async def all_dead() -> bool:
        return (await _redrive(broker, lambda tally: None, dry_run=True)).found >= count

    await eventually_async(all_dead, every=0.1)
    return {str(number) for number in range(count)}
