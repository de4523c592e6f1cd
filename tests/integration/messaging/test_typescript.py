"""The TypeScript SDK: its own suite on a real broker, beside the Python SDK, and while the broker fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import pytest
import yaml
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from kryonix.messaging import Message, MessagingClient, PostgresIdempotency, Reject, Retry
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.redrive.mover import redrive
from kryonix.topology.catalog import Catalog, parse_catalog
from kryonix.topology.naming import Names
from tests.integration.engines.handlers.conftest import Postgres, daemon, postgres
from tests.integration.messaging.conftest import changed_catalog
from tests.integration.messaging.test_connection import certificate
from tests.integration.messaging.test_postgres import dsn
from tests.support.amqp import administrator, ready, take
from tests.support.containers import output_of
from tests.support.project import Project, tenant
from tests.support.recording_handler import Seen
from tests.support.typescript import NODE, Agent, Failed, agent
from tests.support.waiting import eventually, eventually_async

__all__ = ["daemon", "postgres"]

pytestmark = pytest.mark.anyio

MESSAGES: Final = int(os.environ.get("KRYONIX_TYPESCRIPT_FAULT_MESSAGES", "6000"))
TENANTS: Final = ("node", "node-two", "node-three")
"""One for each of the files of tests that run at once. The first is also the one of the tests here."""
NAMES: Final = Names(TENANTS[0])
ROUTE: Final = ("crm", "leads.create")
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of its own: its broker is killed."""
    document = yaml.safe_load(changed_catalog())
    document["plans"]["enterprise"]["scaling"]["max_queue_depth"] = 4 * MESSAGES
    made = Project.platform(
        tmp_path_factory.mktemp("typescript") / "project",
        tenant("node", "crm", "financeiro", "portal"),
        *(tenant(id, "crm", "portal") for id in TENANTS[1:]),
        catalogFile="catalog.yaml",
        receiveTime=True,
    )
    made.write("catalog.yaml", yaml.safe_dump(document))
    made.write("catalog.json", json.dumps(document))
    document["retry"] |= {"strategy": "queues"}
    made.write("catalog-queues.yaml", yaml.safe_dump(document))
    made.write("catalog-queues.json", json.dumps(document))
    with made.running():
        yield made


@dataclass(frozen=True)
class World:
    """The platform, and the addresses of the tenant `node` there."""

    project: Project
    outputs: Mapping[str, Any]

    @property
    def uri(self) -> str:
        return str(self.outputs["tenants"]["node"]["amqp_uri"])

    @property
    def catalog(self) -> Catalog:
        return parse_catalog((self.project.folder / "catalog.yaml").read_bytes(), "catalog.yaml")

    @property
    def connect(self) -> dict[str, Any]:
        """What the program with the TypeScript SDK is told to connect to."""
        file = str(self.project.folder / "catalog.json")
        return {"uri": self.uri, "managementUrl": self.outputs["management_url"], "catalog": file}

    @property
    def container(self) -> Any:
        return docker.from_env().containers.get(f"kryonix-{self.project.stack}-rabbitmq")

    async def left(self, queue: str) -> int:
        async with administrator(self.outputs, NAMES.vhost).channel() as channel:
            return await ready(channel, queue)


@pytest.fixture(scope="module")
def world(project: Project) -> World:
    return World(project, project.outputs())


def test_the_suite_of_the_typescript_sdk_passes_on_a_broker(
    project: Project, world: World, postgres: Postgres, tmp_path: Path
) -> None:
    queues = project.beside(
        "tenant-node-queues",
        catalogFile="catalog-queues.yaml",
        tenant=tenant("node-queues", "portal", "whitelabel", plan="tiny"),
    )
    queues.must("up")
    certificate(tmp_path)
    outputs, file = world.outputs, tmp_path / "world.json"
    catalogs = {"native": "catalog.json", "queues": "catalog-queues.json"}
    told = {
        "uris": [outputs["tenants"][id]["amqp_uri"] for id in TENANTS],
        "uriOfQueues": queues.outputs()["tenants"]["node-queues"]["amqp_uri"],
        "managementUrl": outputs["management_url"],
        "admin": f"{outputs['admin_username']}:{outputs['admin_password']}",
        "postgres": dsn(postgres),
        "certificate": str(tmp_path / "cert.pem"),
        "key": str(tmp_path / "key.pem"),
        "catalogs": {name: json.loads((project.folder / each).read_text()) for name, each in catalogs.items()},
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(told))
    command = [str(NODE), "npx", "vitest", "run", "--project", "integration"]
    env = {**os.environ, "KRYONIX_TEST_WORLD": str(file), "NO_COLOR": "1"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout[-6_000:] + ran.stderr[-6_000:]


@dataclass(frozen=True)
class Handled:
    """A message as a handler was given it, in either language."""

    data: Any
    message_id: str
    attempt: int
    headers: Mapping[str, Any]
    routing_key: str
    trace: str


class Party(ABC):
    """An application of the tenant, in one of the languages."""

    @abstractmethod
    async def send(
        self, data: Any, message_id: str, headers: Mapping[str, Any] | None = None, *, mobile: bool = False
    ) -> None: ...

    @abstractmethod
    async def consume(self, *, failures: int = 0, reject: str | None = None) -> None:
        """Handle messages: ask for a retry so many times, then reject them, or have them done."""

    @property
    @abstractmethod
    def handled(self) -> list[Handled]: ...


class Python(Party):
    def __init__(self, client: MessagingClient) -> None:
        self._client = client
        self._handled: list[Handled] = []

    async def send(
        self, data: Any, message_id: str, headers: Mapping[str, Any] | None = None, *, mobile: bool = False
    ) -> None:
        context = SpanContext(int(TRACE, 16), 0x00F067AA0BA902B7, is_remote=True, trace_flags=TraceFlags(1))
        with trace.use_span(NonRecordingSpan(context)):
            device: Any = "mobile" if mobile else "unknown"
            await self._client.send(*ROUTE, data, message_id=message_id, device=device, headers=headers or {})

    async def consume(self, *, failures: int = 0, reject: str | None = None) -> None:
        async def handle(message: Message) -> None:
            trace_id = f"{trace.get_current_span().get_span_context().trace_id:032x}"
            key = message.route.routing_key
            self._handled.append(
                Handled(message.data, message.message_id, message.attempt, message.headers, key, trace_id)
            )
            if message.attempt <= failures:
                raise Retry
            if reject is not None:
                raise Reject(reject)

        await self._client.consume(*ROUTE, handle)

    @property
    def handled(self) -> list[Handled]:
        return self._handled


class TypeScript(Party):
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def send(
        self, data: Any, message_id: str, headers: Mapping[str, Any] | None = None, *, mobile: bool = False
    ) -> None:
        given = {"bytes": base64.b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}
        options: dict[str, Any] = {"messageId": message_id, "device": "mobile" if mobile else "unknown"}
        options |= {"headers": headers or {}}
        await self._agent.call("send", module=ROUTE[0], action=ROUTE[1], options=options, trace=TRACE, **given)

    async def consume(self, *, failures: int = 0, reject: str | None = None) -> None:
        chosen = {} if reject is None else {"reject": reject}
        await self._agent.call("consume", module=ROUTE[0], action=ROUTE[1], failures=failures, **chosen)

    @property
    def handled(self) -> list[Handled]:
        return [_handled(message) for message in self._agent.messages]


def _handled(message: Mapping[str, Any]) -> Handled:
    data = base64.b64decode(message["bytes"]) if "bytes" in message else message["data"]
    key = message["route"]["routingKey"]
    return Handled(data, message["messageId"], message["attempt"], message["headers"], key, message["trace"])


PARTIES: Final = ("python", "typescript")


@pytest.fixture(params=[f"{sender} to {receiver}" for sender in PARTIES for receiver in PARTIES])
async def parties(request: pytest.FixtureRequest, world: World, anyio_backend: str) -> AsyncIterator[list[Party]]:
    """A sender and a receiver."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_party(name, world)) for name in request.param.split(" to ")]


@asynccontextmanager
async def _party(name: str, world: World) -> AsyncIterator[Party]:
    if name == "typescript":
        async with agent(**world.connect) as program:
            yield TypeScript(program)
    else:
        connecting = MessagingClient.connect(world.uri, application="python", catalog=world.catalog)
        async with await connecting as client:
            yield Python(client)


async def _at(receiver: Party, count: int) -> list[Handled]:
    await eventually_async(lambda: len(receiver.handled) >= count, 60)
    return receiver.handled


async def test_data_and_headers_arrive_as_they_were_sent(parties: list[Party]) -> None:
    sender, receiver = parties
    sent = {
        "json": {"lead": "João ✓ \u2028", "total": 1.5, "many": [1, -2, None, True], "deep": {"é": 2**53}},
        "text": "só texto",
        "bytes": bytes(range(256)) * 8,
        "small": b"",
    }
    headers = {"text": "é", "number": -40_000, "large": 2**40, "half": 0.25, "list": ["x", {"y": None}], "yes": True}
    await receiver.consume()
    for message_id, data in sent.items():
        await sender.send(data, message_id, headers)
    await sender.send({"much": "x" * 10_000}, "compressed", mobile=True)
    found = {each.message_id: each for each in await _at(receiver, 5)}
    assert {name: found[name].data for name in sent} == sent
    assert found["compressed"].data == {"much": "x" * 10_000}
    for name in sent:
        assert {key: found[name].headers[key] for key in headers} == headers
    assert {each.attempt for each in found.values()} == {1}


async def test_a_message_is_retried_by_either_language(parties: list[Party]) -> None:
    sender, receiver = parties
    await receiver.consume(failures=1)
    await sender.send({"n": 1}, "retried")
    first, second = await _at(receiver, 2)
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.data == second.data == {"n": 1}
    assert first.routing_key == second.routing_key


async def test_a_dead_letter_has_its_reason_and_can_be_redriven(parties: list[Party], world: World) -> None:
    sender, receiver = parties
    await receiver.consume(reject="not a lead")
    await sender.send({"n": 1}, "dead", {"owner": "joão"})
    await _at(receiver, 1)
    queue = NAMES.dead_letter_queue(*ROUTE)
    await eventually_async(lambda: world.left(queue), 60, every=0.1)
    (tally,) = await redrive(parse_uri(world.uri), world.catalog, [ROUTE], None, False, lambda tally: None)
    assert tally.moved == 1
    _, again = await _at(receiver, 2)
    assert (again.data, again.attempt, again.headers["owner"]) == ({"n": 1}, 1, "joão")
    assert again.headers["kryonix-redrive-reason"] == "not a lead"
    async with administrator(world.outputs, NAMES.vhost).channel() as channel:
        dead = await take(channel, queue)
        await dead.ack()
    assert (dead.headers["kryonix-reason"], dead.headers["kryonix-attempts"]) == ("not a lead", 1)
    assert (dead.headers["kryonix-exchange"], dead.headers["kryonix-redrives"]) == (NAMES.exchange, 1)


async def test_a_handler_works_in_the_senders_trace(parties: list[Party]) -> None:
    sender, receiver = parties
    await receiver.consume()
    await sender.send({}, "traced")
    (message,) = await _at(receiver, 1)
    assert message.trace == TRACE
    assert str(message.headers["traceparent"]).startswith(f"00-{TRACE}-")


@pytest.mark.usefixtures("anyio_backend")
async def test_a_message_handled_in_one_language_is_skipped_in_the_other(world: World, postgres: Postgres) -> None:
    ids, table = ["one", "joão \\ ✓"], "handled_in_both"
    store = PostgresIdempotency(dsn(postgres), table)
    connecting = MessagingClient.connect(world.uri, application="python", catalog=world.catalog, idempotency=store)
    async with await connecting as client:
        async with agent(**world.connect, idempotency=[dsn(postgres), table]) as program:
            await program.call("consume", module=ROUTE[0], action=ROUTE[1])
            for message_id in ids:
                await client.send(*ROUTE, {}, message_id=message_id)
            await eventually_async(lambda: len(program.messages) == len(ids), 60)
        consumer = await client.consume(*ROUTE, Seen())
        for message_id in ids:
            await client.send(*ROUTE, {}, message_id=message_id)
        await eventually_async(lambda: consumer.duplicates + consumer.handled == len(ids), 60)
        assert consumer.duplicates == len(ids)


@pytest.mark.usefixtures("anyio_backend")
async def test_a_blocked_broker_stops_sends_and_no_acknowledgement(world: World) -> None:
    """A memory alarm: the broker reads nothing more from connections that publish."""

    async def watermark(value: str) -> None:
        await asyncio.to_thread(
            output_of, world.container, "rabbitmqctl", "set_vm_memory_high_watermark", value, user="rabbitmq"
        )

    async with agent(**world.connect) as program:
        waiting = [program.call("send", module=ROUTE[0], action=ROUTE[1], data=number) for number in range(5)]
        await asyncio.gather(*waiting)
        await watermark("0.000001")
        try:
            with pytest.raises(Failed, match="no confirmation within") as failure:
                await program.call("send", module="portal", action="interacoes.track", data=0, options={"timeout": 2})
            assert failure.value.name == "SendTimedOut"
            late = asyncio.create_task(
                program.call("send", module="portal", action="interacoes.track", data=1, options={"timeout": 120})
            )
            await program.call("consume", module=ROUTE[0], action=ROUTE[1])
            await eventually_async(lambda: len(program.messages) == 5, 60)
            assert not late.done()
        finally:
            await watermark("0.6")
        await late
        assert not [line for line in program.log if "connection lost" in line]


async def test_a_broker_that_fails_loses_and_repeats_no_message(
    world: World, anyio_backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is killed, drained for maintenance, and killed once more."""
    route = {"module": "financeiro", "action": "faturas.create"}
    container = world.container
    faults = [lambda: _killed(container), lambda: _drained(container), lambda: _killed(container)]
    async with (
        agent(**world.connect, idempotency=2 * MESSAGES) as worker,
        agent(**world.connect) as publisher,
    ):
        await worker.call("consume", **route, concurrency=50, prefetch=500)
        began = time.monotonic()
        sending = asyncio.create_task(publisher.call("burst", **route, count=MESSAGES, window=500, timeout=300))
        for number, fault in enumerate(faults, 1):
            await _handled_at_least(worker, MESSAGES * number // (len(faults) + 2), sending)
            await asyncio.to_thread(fault)
        result = await sending
        took = time.monotonic() - began
        await eventually_async(lambda: len({each["messageId"] for each in worker.messages}) == MESSAGES, 300)
        handled = Counter(each["messageId"] for each in worker.messages)
    with capsys.disabled():
        print(
            f"\n{MESSAGES:,} messages, 2 kills and a drain: {result['confirmed']:,} confirmed in {took:.0f} s, 0 lost"
        )
    assert (result["confirmed"], result["failed"]) == (MESSAGES, [])
    assert set(handled.values()) == {1}
    assert await world.left(NAMES.unrouted) == 0
    assert await world.left(NAMES.dead_letter_queue("financeiro", "faturas.create")) == 0


async def _handled_at_least(worker: Agent, count: int, sending: asyncio.Task[Any]) -> None:
    enough: Callable[[], bool] = lambda: len(worker.messages) > count or sending.done()  # noqa: E731
    await eventually_async(enough, 300)


def _killed(container: Any) -> None:
    """Until it runs again: all messages may be through by then, and the test itself has no patience to connect."""
    container.kill("SIGKILL")
    container.start()
    started = ["rabbitmqctl", "await_startup"]
    eventually("the node runs", lambda: container.exec_run(started, user="rabbitmq").exit_code == 0, within=300)


def _drained(container: Any) -> None:
    """As `kryonix cluster roll` does: the node closes its connections and takes none, then serves again."""
    output_of(container, "rabbitmq-upgrade", "drain", user="rabbitmq")
    output_of(container, "rabbitmq-upgrade", "revive", user="rabbitmq")
