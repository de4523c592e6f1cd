from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from kryonix.messaging import (
    AuditRecord,
    ConfigurationError,
    JsonLinesAudit,
    MemoryBroker,
    MemoryIdempotency,
    Message,
    MessagingClient,
    NotSerializable,
    Outgoing,
    PostgresAudit,
    PostgresIdempotency,
    UnknownRoute,
)
from kryonix.messaging.checks import check_handler
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


class Unreadable(dict[str, int]):
    def items(self) -> Any:
        raise LookupError("the session is closed")


class Sink:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def write(self, records: Sequence[AuditRecord]) -> None:
        self.outcomes += [record.outcome for record in records]

    async def close(self) -> None: ...


NESTED: Any = json.loads("[" * 20 + "]" * 20)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(modules=["crm"])


@pytest.fixture
async def client(broker: MemoryBroker) -> AsyncIterator[MessagingClient]:
    async with await broker.connect() as made:
        yield made


@pytest.mark.parametrize(
    "headers",
    [
        {"a": object()},
        {"a": {1}},
        {"a": b"\xff"},
        {"a": Decimal(1)},
        {"a": 2**63},
        {"a": math.inf},
        {"a": math.nan},
        {"a": "\ud800"},
        {"a": [1, {"b": object()}]},
        {"a": {1: 2}},
        {"a": NESTED},
        {"a": datetime(1960, 1, 1, tzinfo=UTC)},
        {"a": datetime(9999, 1, 1, tzinfo=UTC)},
        {"a": [datetime.min]},
        {"a": "x" * 70_000},
        {"\ud800": 1},
        {"k" * 256: 1},
        {"": 1},
        {1: 2},
        {"CC": ["crm.leads.update.low"]},
        {"BCC": "x"},
        {"x-delivery-count": 99},
        {"kryonix-failures": 99},
        {"traceparent": "00-1-2-01"},
        [("a", 1)],
        "text",
        None,
    ],
    ids=lambda headers: repr(headers).partition(" at 0x")[0][:30],
)
async def test_headers_that_break_a_connection_are_refused(
    client: MessagingClient, broker: MemoryBroker, headers: Any
) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        await client.send_message(Outgoing("crm", "leads.create", {}, headers=headers))
    assert broker.messages("crm", "leads.create") == []


async def test_every_transportable_header_is_accepted(client: MessagingClient, broker: MemoryBroker) -> None:
    headers = {"a": None, "b": True, "c": -(2**63), "d": 1.5, "e": "é", "f": [1, ["x"]], "g": {"h": datetime.now(UTC)}}
    await client.crm.send("leads.create", {}, headers=headers)
    (envelope,) = broker.messages("crm", "leads.create")
    assert headers.items() <= envelope.headers.items()


@pytest.mark.parametrize(
    "options",
    [
        {"message_id": ""},
        {"message_id": 5},
        {"message_id": b"x"},
        {"device": "fridge"},
        {"device": ["web"]},
        {"priority": None},
        {"priority": 5.0},
        {"expires": True},
        {"expires": math.inf},
        {"expires": timedelta(days=10_000)},
        {"expires": 0.0001},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": None},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": 10**400},
        {"expires": 10**400},
        {"priority": 10**5000},
        {"message_id": Unspeakable()},
        {"device": Unspeakable()},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_invalid_send_options_are_refused(client: MessagingClient, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await client.send("crm", "leads.create", {}, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": 100_000},
        {"prefetch": 0},
        {"prefetch": "3"},
        {"handler_timeout": 0},
        {"handler_timeout": math.nan},
        {"timeout": 0},
        {"timeout": 10**400},
    ],
    ids=str,
)
async def test_invalid_consumer_options_are_refused(client: MessagingClient, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await client.consume("crm", "leads.create", Seen(), **options)


async def test_an_invalid_handler_is_refused_and_costs_no_attempt(
    client: MessagingClient, broker: MemoryBroker
) -> None:
    nothing: Any = None
    await client.crm.send("leads.create", {})
    with pytest.raises(ConfigurationError, match="None is not an async function"):
        await client.crm.consume("leads.create", nothing)
    assert len(broker.messages("crm", "leads.create")) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"application": ""},
        {"application": 5},
        {"application": "a\nb"},
        {"application": "名" * 100},
        {"catalog": {}},
        {"prefetch": 0},
        {"router_timeout": math.nan},
        {"max_bytes": 0},
        {"compression": "lz4"},
        {"compression": []},
        {"router": 5},
        {"audit": JsonLinesAudit},
        {"audit": "audit.jsonl"},
        {"idempotency": "postgresql://"},
    ],
    ids=str,
)
async def test_invalid_client_options_are_refused(broker: MemoryBroker, options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        await broker.connect(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryBroker("Bad Tenant"),
        lambda: MemoryBroker(modules=["crn"]),
        lambda: MemoryBroker(plan="gold"),
        lambda: MemoryBroker(delay=math.nan),
        lambda: MemoryIdempotency(0),
        lambda: MemoryIdempotency(cast(Any, "many")),
        lambda: PostgresAudit("postgresql://", "audit; DROP"),
        lambda: PostgresAudit("postgresql://", cast(Any, 5)),
        lambda: PostgresIdempotency(cast(Any, 5)),
        lambda: PostgresIdempotency("postgresql://", "Handled"),
    ],
)
def test_invalid_parts_are_refused_at_construction(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.parametrize(
    "options",
    [
        {"amqp_uri": 5},
        {"outputs": 5},
        {"outputs": "\0"},
        {"management_url": 5},
        {"ssl_context": "cert.pem"},
        {"heartbeat": 0},
        {"timeout": 10**400},
    ],
    ids=str,
)
async def test_an_invalid_address_is_refused_before_connecting(options: Any) -> None:
    uri = {} if "outputs" in options else {"amqp_uri": "amqp://kryonix_acme:hidden@127.0.0.1:1/%2Fcliente_acme"}
    with pytest.raises(ConfigurationError) as failure:
        await MessagingClient.connect(**{**uri, **options})
    assert "hidden" not in str(failure.value)


async def test_data_whose_own_code_fails_is_not_serialisable(client: MessagingClient) -> None:
    with pytest.raises(NotSerializable, match="the session is closed"):
        await client.crm.send("leads.create", Unreadable(a=1))


@pytest.mark.parametrize("timeout", [-1, math.nan, "5", None])
async def test_an_invalid_close_timeout_is_refused(client: MessagingClient, timeout: Any) -> None:
    consumer = await client.crm.consume("leads.create", Seen())
    for closing in (client.close(timeout), consumer.stop(timeout)):
        with pytest.raises(ConfigurationError, match="timeout"):
            await closing
    await client.crm.send("leads.create", {})
    await eventually_async(lambda: consumer.handled == 1)


@pytest.mark.parametrize("module", [5, ["crm"], "crn", "c" * 1_000_000], ids=lambda module: str(module)[:10])
async def test_an_invalid_module_is_an_unknown_route_everywhere(client: MessagingClient, module: Any) -> None:
    for call in (
        client.send(module, "leads.create", {}),
        client.consume(module, "leads.create", Seen()),
        client.queue_stats(module),
    ):
        with pytest.raises(UnknownRoute, match="Allowed: crm") as failure:
            await call
        assert len(str(failure.value)) < 400


async def test_an_unknown_route_mentions_no_generated_id(client: MessagingClient) -> None:
    with pytest.raises(
        UnknownRoute, match=r"^unknown action 'leads.crate' .*Did you mean 'leads.create'\? Allowed"
    ) as failure:
        await client.crm.send("leads.crate", {})  # type: ignore[arg-type]
    assert failure.value.message_id is None
    with pytest.raises(UnknownRoute, match=r"^message mine: unknown action"):
        await client.crm.send("leads.crate", {}, message_id="mine")  # type: ignore[arg-type]


async def test_mypy_catches_a_wrong_name_before_the_program_runs(client: MessagingClient) -> None:
    """Each of these ignores would be reported as unused if mypy did not see the mistake."""
    for call in (
        client.send("crn", "leads.create", {}),  # type: ignore[arg-type]
        client.send("crm", "leads.crate", {}),  # type: ignore[arg-type]
        client.crm.send("messages.send", {}),  # type: ignore[arg-type]
        client.whatsapp.consume("leads.create", Seen()),  # type: ignore[arg-type]
        client.queue_stats("crn"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UnknownRoute):
            await call
    with pytest.raises(ConfigurationError):
        await client.crm.send("leads.create", {}, device="fridge")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await client.crm.send("leads.create", {}, prioritty=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        1,
        None,
        Outgoing("crm", cast(Any, Unspeakable()), {}),
        Outgoing("crm", "leads.create", {}, expires=cast(Any, "soon")),
        Outgoing("crm", "leads.create", {}, headers=cast(Any, Unreadable(a=1))),
    ],
    ids=["number", "none", "action", "expires", "headers"],
)
async def test_an_invalid_message_of_many_fails_alone(broker: MemoryBroker, wrong: Any) -> None:
    sink = Sink()
    async with await broker.connect(audit=sink) as client:
        batch = await client.send_many([wrong, Outgoing("crm", "leads.create", {})], window=1)
    assert len(batch.sent) == 1
    ((message, error),) = batch.failed
    assert message is wrong
    assert isinstance(error, ConfigurationError)
    assert sink.outcomes[-1] == "confirmed"


@pytest.mark.parametrize("messages", [None, Outgoing("crm", "leads.create", {})])
async def test_a_non_iterable_is_refused(client: MessagingClient, messages: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"messages: \w+ is not .*Iterable"):
        await client.send_many(messages)


async def test_a_failing_iterable_loses_no_message_in_flight(client: MessagingClient, broker: MemoryBroker) -> None:
    def messages() -> Iterator[Outgoing]:
        for number in range(10):
            yield Outgoing("crm", "leads.create", number)
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke") as failure:
        await client.send_many(messages(), window=4)
    assert failure.value.__notes__ == ["10 messages were sent before, 0 failed"]
    assert len(broker.messages("crm", "leads.create")) == 10


async def test_a_source_cut_short_by_a_cancelled_task_is_no_complete_batch(client: MessagingClient) -> None:
    async def messages() -> AsyncIterator[Outgoing]:
        yield Outgoing("crm", "leads.create", 1)
        reading = asyncio.get_running_loop().create_future()
        reading.cancel()
        await reading
        yield Outgoing("crm", "leads.create", 2)

    with pytest.raises(asyncio.CancelledError) as failure:
        await client.send_many(messages())
    assert failure.value.__notes__ == ["1 messages were sent before, 0 failed"]


async def test_messages_that_fail_at_once_leave_other_work_its_turns(client: MessagingClient) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, stopped.set)

    def endless() -> Iterator[Outgoing]:
        for number in range(20_000):
            if stopped.is_set():
                return
            yield Outgoing("crn", "leads.create", number)

    batch = await client.send_many(endless())
    assert 0 < len(batch.failed) < 20_000


async def test_a_hanging_router_takes_at_most_the_sends_timeout(broker: MemoryBroker) -> None:
    class Hanging:
        async def decide(self, message: Outgoing) -> Any:
            await asyncio.sleep(3600)

    async with await broker.connect(router=Hanging(), router_timeout=3600) as client:
        async with asyncio.timeout(30):
            result = await client.crm.send("leads.create", {}, timeout=2)
    assert "longer than 1 s" in result.decision


async def test_an_uncancellable_router_delays_no_message(broker: MemoryBroker) -> None:
    released, ended = asyncio.Event(), asyncio.Event()

    class Deaf:
        async def decide(self, message: Outgoing) -> Any:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()
            ended.set()

    async with await broker.connect(router=Deaf(), router_timeout=0.05) as client:
        async with asyncio.timeout(30):
            result = await client.crm.send("leads.create", {})
        assert "longer than 0.05 s" in result.decision
        released.set()
        await asyncio.wait_for(ended.wait(), 30)


async def one(message: Message) -> None: ...
async def defaults(message: Message, times: int = 1, **more: Any) -> None: ...
async def none() -> None: ...
async def two(message: Message, times: int) -> None: ...
async def generator(message: Message) -> AsyncIterator[Message]:
    yield message


def plain(message: Message) -> None: ...


class Handling:
    async def __call__(self, message: Message) -> None: ...
    async def method(self, message: Message) -> None: ...
    def plain(self, message: Message) -> None: ...


def passing_on(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(wrapped)(lambda message: wrapped(message))


def adding(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    async def add(message: Message) -> None:
        wrapped(message, 1)

    return add


@pytest.mark.parametrize(
    "handler",
    [
        one,
        defaults,
        Handling(),
        Handling().method,
        functools.partial(two, times=1),
        functools.partial(Handling()),
        passing_on(one),
        adding(two),
        adding(plain),
        AsyncMock(),
    ],
)
def test_an_async_callable_of_one_message_is_a_handler(handler: Any) -> None:
    check_handler(handler)


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (plain, "plain is not an async function. Write `async def handler(message)`; call blocking code in it with"),
        (Handling().plain, "Handling.plain is not an async function"),
        (functools.partial(plain), "is not an async function"),
        (passing_on(plain), "plain is not an async function"),
        (generator, "generator is not an async function"),
        (Handling, "Handling is a class, not an async function. Pass an object of it that has `async def __call__"),
        (none, "none does not take the message as its only argument (too many positional arguments)"),
        (two, "two does not take the message as its only argument (missing a required argument: 'times')"),
        (Handling.method, "Handling.method does not take the message"),
        (None, "None is not an async function"),
    ],
    ids=["plain", "method", "partial", "wrapped", "generator", "class", "none", "two", "unbound", "None"],
)
def test_any_other_handler_is_refused_saying_what_to_write(handler: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        check_handler(handler)
