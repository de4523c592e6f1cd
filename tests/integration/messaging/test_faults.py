"""A broker that dies: on a platform of its own, because it is killed here."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import docker
import pytest
import yaml

from kryonix.messaging import (
    MemoryIdempotency,
    Message,
    MessagingClient,
    NotConnected,
    Outgoing,
    SendTimedOut,
    StatsUnavailable,
)
from kryonix.topology.naming import Names
from tests.harness import Project, tenant
from tests.integration.messaging.conftest import CATALOG
from tests.seen import Seen, eventually

pytestmark = pytest.mark.anyio

MESSAGES = int(os.environ.get("KRYONIX_FAULT_MESSAGES", "100000"))
KILLS = 3


class Broker:
    """The platform's broker, as somebody who can pull its plug sees it."""

    def __init__(self, project: Project) -> None:
        self._docker = docker.from_env()
        self._container = self._docker.containers.get(f"kryonix-{project.stack}-rabbitmq")
        outputs = project.outputs()
        self.amqp_uri = outputs["tenants"]["fault"]["amqp_uri"]
        self.management_url = outputs["management_url"]

    async def kill(self) -> None:
        await asyncio.to_thread(self._container.kill, "SIGKILL")

    async def start(self) -> None:
        await asyncio.to_thread(self._container.start)

    async def connect(self, **options: object) -> MessagingClient:
        options = {"application": "fault", "management_url": self.management_url, **options}
        return await MessagingClient.connect(self.amqp_uri, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A tenant with room for all messages of the test at once, on a broker that may be killed."""
    catalog = yaml.safe_load(CATALOG.read_text())
    catalog["plans"]["enterprise"]["scaling"]["max_queue_depth"] = 4 * MESSAGES
    project = Project.platform(
        tmp_path_factory.mktemp("faults") / "project",
        tenant("fault", "financeiro", "whitelabel"),
        catalogFile="catalog.yaml",
    )
    project.write("catalog.yaml", yaml.safe_dump(catalog))
    try:
        project.must("up")
        yield Broker(project)
    finally:
        project.remove()


async def test_no_confirmed_message_is_lost_while_the_broker_is_killed_and_none_is_handled_twice(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    handled: Counter[str] = Counter()

    async def handle(message: Message) -> None:
        handled[message.message_id] += 1

    async def messages() -> AsyncIterator[Outgoing]:
        for number in range(MESSAGES):
            yield Outgoing("financeiro", "faturas.create", {"n": number}, message_id=str(number))

    publisher = await broker.connect(application="publisher")
    store = MemoryIdempotency(size=2 * MESSAGES)
    worker = await broker.connect(application="worker", idempotency=store)
    consumer = await worker.financeiro.consume("faturas.create", handle, concurrency=50, prefetch=500)
    began = time.monotonic()
    sending = asyncio.create_task(publisher.send_many(messages(), window=500, timeout=300))
    for kill in range(1, KILLS + 1):
        await eventually(lambda: len(handled) > MESSAGES * kill // (KILLS + 2), 300)  # noqa: B023
        await broker.kill()
        await asyncio.sleep(0.5)
        await broker.start()
    batch = await sending
    took = time.monotonic() - began
    confirmed = {result.message_id for result in batch.sent}
    await eventually(lambda: confirmed <= handled.keys(), 300)
    await worker.close()
    await publisher.close()

    with capsys.disabled():
        print(
            f"\n{MESSAGES:,} messages, {KILLS} kills: {len(confirmed):,} confirmed in {took:.0f} s, "
            f"{len(batch.failed)} not, 0 lost, {consumer.duplicates} duplicates absorbed"
        )
    assert len(confirmed) == MESSAGES, batch.failed[:3]
    assert set(handled.values()) == {1}
    assert await _left_over(broker) == 0


async def _left_over(broker: Broker) -> int:
    """Messages that ended as dead letters or unrouted."""
    names = Names("fault")
    client = await broker.connect()
    found: list[object] = []
    queues = (names.dead_letter_queue("financeiro", "faturas.create"), names.unrouted)
    subscription = await client._transport.subscribe(queues, 100, found.append, 10)
    await asyncio.sleep(1)
    await subscription.close()
    await client.close()
    return len(found)


async def test_while_the_broker_is_away_nothing_hangs_and_when_it_is_back_everything_goes_on(broker: Broker) -> None:
    seen = Seen()
    client = await broker.connect()
    await client.whitelabel.consume("temas.processar", seen)
    await client.whitelabel.send("temas.processar", "before")
    await seen.wait(1)
    await broker.kill()
    try:
        await eventually(lambda: not client.connected)
        for call, error in (
            (client.whitelabel.send("temas.processar", "lost", timeout=0.5), (NotConnected, SendTimedOut)),
            (client.broadcast("lost", timeout=0.5), NotConnected),
            (client.whitelabel.consume("assets.otimizar", seen, timeout=0.5), NotConnected),
            (client.queue_stats(timeout=0.5), StatsUnavailable),
            (broker.connect(timeout=0.5), NotConnected),
        ):
            began = time.monotonic()
            with pytest.raises(error):
                await call
            assert time.monotonic() - began < 5
        waiting = asyncio.create_task(client.whitelabel.send("temas.processar", "after", timeout=60))
        await asyncio.sleep(0.2)
    finally:
        await broker.start()
    await waiting
    await eventually(lambda: "after" in {message.data for message in seen.messages}, 60)
    await client.close()


async def test_closing_while_the_broker_is_away_does_not_hang(broker: Broker) -> None:
    client = await broker.connect()
    started = asyncio.Event()

    async def hang(message: Message) -> None:
        started.set()
        await asyncio.sleep(3600)

    await client.whitelabel.consume("branding.atualizar", hang)
    await client.whitelabel.send("branding.atualizar", {}, timeout=30)
    await started.wait()
    await broker.kill()
    try:
        began = time.monotonic()
        await client.close(timeout=0.5)
        assert time.monotonic() - began < 10
    finally:
        await broker.start()
