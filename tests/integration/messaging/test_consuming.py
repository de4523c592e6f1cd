"""Consuming, against the real broker and the one in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import zstandard
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags
from pydantic import BaseModel, ConfigDict

from kryonix.messaging import Claim, MemoryIdempotency, Message, NotConnected, NotRoutable, QueueStats, Reject, Retry
from kryonix.messaging.message import Header
from tests.support.broker_under_test import World
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


async def test_a_handler_gets_data_and_route_and_returning_acknowledges(world: World) -> None:
    seen = Seen()
    async with await world.connect(application="shop") as client:
        await client.crm.consume("leads.create", seen)
        result = await client.crm.send("leads.create", {"nome": "Ana", "n": [1, None]}, headers={"x": "y"}, priority=3)
        (message,) = await seen.wait(1)
    assert message.data == {"nome": "Ana", "n": [1, None]}
    assert (message.message_id, message.attempt, message.priority) == (result.message_id, 1, 3)
    assert (message.application, message.headers["x"]) == ("shop", "y")
    route = message.route
    assert (route.module, route.action, route.exchange) == ("crm", "leads.create", world.names.exchange)
    assert (route.queue, route.routing_key) == (world.names.queue("crm", "leads.create"), "crm.leads.create.low")
    assert await world.is_empty(world.names.queue("crm", "leads.create"))


@pytest.mark.parametrize("failure", [Retry(), ValueError("bug")], ids=["Retry", "any exception"])
async def test_a_failed_message_is_retried_later_and_counts_attempts(world: World, failure: Exception) -> None:
    received: list[datetime | None] = []

    async def fail_once(message: Message) -> None:
        received.append(message.received_at)
        if message.attempt == 1:
            raise failure

    seen = Seen(fail_once)
    async with await world.connect() as client:
        consumer = await client.crm.consume("leads.qualify", seen)
        await client.crm.send("leads.qualify", {})
        await seen.wait(2)
        await eventually_async(lambda: consumer.handled == 1)
    assert seen.attempts == [1, 2]
    assert seen.times[1] - seen.times[0] > 0.9 * world.second
    assert received[0] == received[1] is not None, "the time of the first receipt"
    assert (consumer.retried, consumer.handled, consumer.rejected) == (1, 1, 0)


async def test_a_poison_message_is_dead_lettered_after_the_last_attempt(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_poison(message: Message) -> None:
        if message.data == "poison":
            raise ValueError("poison")

    seen = Seen(fail_poison)
    async with await world.connect() as client:
        await client.crm.consume("contacts.sync", seen)
        await client.crm.send("contacts.sync", "poison", message_id="poison")
        for number in range(20):
            await client.crm.send("contacts.sync", number)
        (dead,) = await world.dead_letters("crm", "contacts.sync")
        await seen.wait(23)
    assert dead.message_id == "poison"
    queue = world.names.dead_letter_queue("crm", "contacts.sync")
    fates = ["again in 1 s (2 attempts left)", "again in 1 s (1 attempt left)", f"now a dead letter in {queue}"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"crm.contacts.sync: attempt {number} at message poison failed; {fate}" for number, fate in enumerate(fates, 1)
    ]
    assert [message.attempt for message in seen.messages if message.data == "poison"] == [1, 2, 3]
    assert sorted(message.data for message in seen.messages if message.data != "poison") == list(range(20))
    assert dead.headers["x-death"][0]["reason"] == "delivery_limit"
    assert dead.headers["x-death"][0]["exchange"] == world.names.exchange


async def test_a_dead_letter_names_its_reason_and_origin(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def reject(message: Message) -> None:
        raise Reject("no such customer")

    seen = Seen(reject)
    async with await world.connect() as client:
        consumer = await client.crm.consume("tasks.assign", seen)
        await client.crm.send("tasks.assign", {"n": 1}, message_id="r-1", device="mobile", headers={"mine": 1})
        (dead,) = await world.dead_letters("crm", "tasks.assign")
        await eventually_async(lambda: consumer.rejected == 1)
    assert (dead.message_id, json.loads(dead.body), dead.headers["mine"]) == ("r-1", {"n": 1}, 1)
    assert dead.headers[Header.REASON] == "no such customer"
    assert dead.headers[Header.ATTEMPTS] == 1
    assert abs(dead.headers[Header.DIED] - datetime.now(UTC)) < timedelta(minutes=5)
    queue = world.names.dead_letter_queue("crm", "tasks.assign")
    assert f"message r-1, now a dead letter in {queue}: no such customer" in caplog.text
    assert dead.headers[Header.FIRST_EXCHANGE] == world.names.mobile_exchange
    assert dead.headers[Header.FIRST_KEY] == "mobile.crm.tasks.assign"
    assert len(seen.messages) == 1


REASONS: list[tuple[Any, str]] = [
    (404, "404"),
    (ValueError("no"), "no"),
    ("caf\udce9", "caf\\udce9"),
    ("x" * 5000, "x" * 1000),
]


@pytest.mark.parametrize(("reason", "noted"), REASONS, ids=["number", "exception", "surrogate", "long"])
async def test_a_rejection_with_any_reason_dead_letters_at_once(world: World, reason: Any, noted: str) -> None:
    async def reject(message: Message) -> None:
        raise Reject(reason)

    seen = Seen(reject)
    async with await world.connect() as client:
        await client.crm.consume("tasks.assign", seen)
        await client.crm.send("tasks.assign", {})
        (dead,) = await world.dead_letters("crm", "tasks.assign")
    assert dead.headers[Header.REASON] == noted
    assert len(seen.messages) == 1


async def test_a_dead_letter_keeps_headers_of_other_applications(world: World) -> None:
    async def reject(message: Message) -> None:
        raise Reject("unwanted")

    theirs = {"correlation_id": "c-1", "reply_to": "answers", "message_type": "order"}
    headers = {"double": 0.1, "huge": 1e308, "n" * 200: [1.5, None]}
    async with await world.connect() as client:
        await client.crm.consume("tasks.assign", reject)
        await world.post("crm", "tasks.assign", b"{}", headers=headers, **theirs)
        (dead,) = await world.dead_letters("crm", "tasks.assign")
    assert {name: getattr(dead, name) for name in theirs} == theirs
    assert headers.items() <= dead.headers.items()


BOMB = zstandard.ZstdCompressor().compress(b"[" + b" " * 40_000_000 + b"]")
UNREADABLE: list[tuple[bytes, dict[str, Any]]] = [
    (b"", {}),
    (b"{", {}),
    (b"\xff\xfe", {}),
    (b"NaN", {}),
    (b"[" * 100_000, {}),
    (b"not json", {"content_type": None}),
    (b"{}", {"content_encoding": "br"}),
    (b"{}", {"content_encoding": "zstd"}),
    (b"{}", {"content_encoding": "gzip"}),
    (gzip.compress(b'{"a": 1}' * 100)[:-9], {"content_encoding": "gzip"}),
    (zstandard.ZstdCompressor().compress(b'{"a": 1}' * 100)[:-5], {"content_encoding": "zstd"}),
    (BOMB, {"content_encoding": "zstd"}),
    (gzip.compress(b"[" + b" " * 40_000_000 + b"]", 9), {"content_encoding": "gzip"}),
]


class Order(BaseModel):
    model_config = ConfigDict(strict=True)
    id: UUID
    lines: list[dict[str, Decimal]]


async def test_a_handler_gets_a_model_and_what_does_not_fit_is_a_dead_letter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    order = Order(id=uuid4(), lines=[{"price": Decimal("1.50")}])
    async with await world.connect() as client:
        consumer = await client.crm.consume("reports.generate", seen, model=Order)
        await client.crm.send("reports.generate", {"id": str(order.id), "lines": [{"price": "dear"}]}, message_id="m")
        await client.crm.send("reports.generate", order)
        (dead,) = await world.dead_letters("crm", "reports.generate")
        (message,) = await seen.wait(1)
    assert message.data == order
    problem = "the data is not a valid Order: lines[0].price: Input should be a valid decimal"
    assert dead.headers[Header.REASON] == f"undecodable: {problem}"
    assert (consumer.undecodable, consumer.retried) == (1, 0)
    assert f"message m, now a dead letter in {world.names.dead_letter_queue('crm', 'reports.generate')}" in caplog.text


async def test_an_undecodable_message_is_dead_lettered_at_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    async with await world.connect() as client:
        consumer = await client.crm.consume("reports.generate", seen)
        for number, (body, properties) in enumerate(UNREADABLE):
            await world.post("crm", "reports.generate", body, message_id=f"bad-{number}", **properties)
        await client.crm.send("reports.generate", "good")
        dead = await world.dead_letters("crm", "reports.generate", len(UNREADABLE))
        (message,) = await seen.wait(1)
    assert message.data == "good"
    assert {letter.message_id for letter in dead} == {f"bad-{number}" for number in range(len(UNREADABLE))}
    assert all(letter.headers[Header.REASON].startswith("undecodable: ") for letter in dead)
    assert consumer.undecodable == len(UNREADABLE)
    assert (
        f"message bad-1, now a dead letter in {world.names.dead_letter_queue('crm', 'reports.generate')}: "
        in caplog.text
    )
    (bomb, *_) = [letter for letter in dead if letter.message_id == "bad-11"]
    assert "inflate to more than" in bomb.headers[Header.REASON]


PAYLOADS: list[Any] = [
    b"",
    b"\x00\xff" * 10,
    b"x" * 1024 * 1024,
    "",
    "texto é",
    {"big": "y" * 1024 * 1024},
    None,
    0,
    [],
    True,
]


async def test_bytes_and_json_of_any_size_arrive_unchanged(world: World) -> None:
    seen = Seen()
    async with await world.connect() as client:
        for number, data in enumerate(PAYLOADS):
            await client.whatsapp.send("media.process", data, message_id=str(number), device="mobile", priority=5)
        await client.whatsapp.consume("media.process", seen)
        await seen.wait(len(PAYLOADS))
    got = {int(message.message_id): message.data for message in seen.messages}
    assert [got[number] for number in range(len(PAYLOADS))] == PAYLOADS


async def test_a_hanging_handler_times_out_and_its_message_is_retried(world: World) -> None:
    async def hang_once(message: Message) -> None:
        if message.attempt == 1:
            await asyncio.sleep(3600)

    seen = Seen(hang_once)
    async with await world.connect() as client:
        consumer = await client.whatsapp.consume("messages.send", seen, handler_timeout=0.2)
        await client.whatsapp.send("messages.send", {})
        await seen.wait(2)
        await eventually_async(lambda: consumer.handled == 1)
    assert consumer.retried == 1


async def test_concurrent_handlers_reach_and_respect_the_limit(world: World) -> None:
    at_work, most, four = 0, 0, asyncio.Event()

    async def work(message: Message) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if at_work == 4:
            four.set()
        await four.wait()
        await asyncio.sleep(0.01)  # in which a fifth would begin
        at_work -= 1

    seen = Seen(work)
    async with await world.connect() as client:
        for number in range(40):
            await client.agendamento.send("agenda.create", number)
        await client.agendamento.consume("agenda.create", seen, concurrency=4)
        await seen.wait(40)
    assert most == 4


async def test_a_slow_consumer_holds_only_its_prefetch(world: World) -> None:
    released = asyncio.Event()

    async def slow(message: Message) -> None:
        await released.wait()

    queue = world.names.queue("agendamento", "agenda.create")
    async with await world.connect() as client:
        for number in range(20):
            await client.agendamento.send("agenda.create", number)
        consumer = await client.agendamento.consume("agenda.create", slow, concurrency=1, prefetch=5)
        await eventually_async(lambda: consumer.in_progress == 1)
        assert len(await world.take(queue, 15)) == 15
        assert await world.is_empty(queue)
        released.set()
        await eventually_async(lambda: consumer.handled == 5)


async def test_consuming_includes_the_priority_lane(world: World) -> None:
    seen = Seen()
    async with await world.connect() as client:
        await client.crm.send("leads.update", "low", priority=1)
        await client.crm.send("leads.update", "high", priority=9)
        await client.crm.consume("leads.update", seen)
        await seen.wait(2)
    assert {message.route.queue.removeprefix(world.names.exchange) for message in seen.messages} == {
        ".crm.leads.update",
        ".crm.leads.update.high",
    }


async def test_higher_priorities_are_delivered_first(world: World) -> None:
    seen = Seen()
    async with await world.connect() as client:
        for priority in (1, 5, 9, 0, 7):
            await client.agendamento.send("confirmacao.request", priority, priority=priority)
        await client.agendamento.consume("confirmacao.request", seen, concurrency=1, prefetch=1)
        await seen.wait(5)
    assert [message.data for message in seen.messages] == [9, 7, 5, 1, 0]


async def test_a_duplicate_is_handled_once(world: World) -> None:
    seen = Seen()
    async with await world.connect(idempotency=MemoryIdempotency()) as client:
        consumer = await client.agendamento.consume("cancelamento.process", seen, concurrency=1)
        for _ in range(3):
            await client.agendamento.send("cancelamento.process", {}, message_id="same")
        await client.agendamento.send("cancelamento.process", {}, message_id="other")
        await eventually_async(lambda: consumer.duplicates == 2 and consumer.handled == 2)
    assert sorted(message.message_id for message in seen.messages) == ["other", "same"]


async def test_a_retried_message_is_not_a_duplicate(world: World) -> None:
    async def fail_once(message: Message) -> None:
        if message.attempt == 1:
            raise Retry

    seen = Seen(fail_once)
    async with await world.connect(idempotency=MemoryIdempotency()) as client:
        consumer = await client.agendamento.consume("disponibilidade.sync", seen)
        await client.agendamento.send("disponibilidade.sync", {})
        await eventually_async(lambda: consumer.handled == 1)
    assert seen.attempts == [1, 2]
    assert consumer.duplicates == 0


class _Broken(MemoryIdempotency):
    asked, mended = 0, False

    async def claim(self, key: str, lease: float) -> Claim:
        self.asked += 1
        if not self.mended:
            raise ConnectionError("the store is away")
        return await super().claim(key, lease)


async def test_an_absent_store_costs_no_attempt(world: World) -> None:
    store, seen = _Broken(), Seen()
    async with await world.connect(idempotency=store) as client:
        await client.financeiro.consume("relatorios.gerar", seen)
        await client.financeiro.send("relatorios.gerar", {})
        await eventually_async(lambda: store.asked == 4)  # one more than a message has attempts
        assert seen.messages == []
        store.mended = True
        await seen.wait(1)
    assert seen.attempts == [1]


class _Hanging(MemoryIdempotency):
    """A store that takes claims, and then hangs."""

    async def done(self, key: str) -> None:
        await asyncio.sleep(3600)

    async def release(self, key: str) -> None:
        await asyncio.sleep(3600)


async def test_a_store_that_hangs_after_the_claim_delays_no_handler(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryonix.messaging.consuming.work.STORE", 0.05)

    async def reject_some(message: Message) -> None:
        if message.data % 2:
            raise Reject("odd")

    seen = Seen(reject_some)
    async with await world.connect(idempotency=_Hanging()) as client:
        consumer = await client.financeiro.consume("relatorios.gerar", seen, concurrency=1)
        for number in range(4):
            await client.financeiro.send("relatorios.gerar", number)
        await eventually_async(lambda: (consumer.handled, consumer.rejected) == (2, 2))
        assert len(await world.dead_letters("financeiro", "relatorios.gerar", 2)) == 2
    assert await world.is_empty(world.names.queue("financeiro", "relatorios.gerar"))


async def test_a_running_handler_can_send_while_the_client_closes(world: World) -> None:
    closing = asyncio.Event()
    client = await world.connect()

    async def pass_on(message: Message) -> None:
        await closing.wait()
        await client.financeiro.send("conciliacao.bancaria", message.data, message_id="passed-on")

    seen = Seen(pass_on)
    consumer = await client.financeiro.consume("faturas.create", seen)
    await client.financeiro.send("faturas.create", 1)
    await seen.wait(1)
    ended = asyncio.create_task(client.close())
    await asyncio.sleep(0.05)
    with pytest.raises(NotConnected, match="closed"):
        await client.financeiro.consume("faturas.create", seen)
    closing.set()
    await ended
    assert (consumer.handled, consumer.retried) == (1, 0)
    (arrived,) = await world.take(world.names.queue("financeiro", "conciliacao.bancaria"), 1)
    assert arrived.message_id == "passed-on"
    with pytest.raises(NotConnected, match="closed"):
        await client.financeiro.send("faturas.create", 2)


async def test_stopping_finishes_handlers_and_requeues_the_rest(world: World) -> None:
    finish = asyncio.Event()

    async def slow(message: Message) -> None:
        await finish.wait()

    seen = Seen(slow)
    queue = world.names.queue("financeiro", "faturas.create")
    async with await world.connect() as client:
        for number in range(10):
            await client.financeiro.send("faturas.create", number)
        consumer = await client.financeiro.consume("faturas.create", seen, concurrency=2)
        await seen.wait(2)
        stopping = asyncio.create_task(consumer.stop())
        left = await world.take(queue, 8)
        assert not stopping.done()
        finish.set()
        await stopping
        await asyncio.wait_for(consumer.wait(), 20)
        assert consumer.handled == 2
        assert consumer.in_progress == 0
    # Given back is not failed: none of them has spent an attempt.
    assert all("x-delivery-count" not in envelope.headers for envelope in left)


async def test_an_overdue_handler_is_cancelled_and_its_message_requeued(world: World) -> None:
    async def hang(message: Message) -> None:
        await asyncio.sleep(3600)

    seen = Seen(hang)
    async with await world.connect() as client:
        consumer = await client.financeiro.consume("pagamentos.process", seen, handler_timeout=None)
        await client.financeiro.send("pagamentos.process", {})
        await seen.wait(1)
        await asyncio.wait_for(consumer.stop(timeout=0.05), 60)
    (left,) = await world.take(world.names.queue("financeiro", "pagamentos.process"), 1)
    assert "x-delivery-count" not in left.headers


async def test_messages_can_be_taken_one_by_one_in_a_loop(world: World) -> None:
    async with await world.connect() as client:
        for name in ("done", "retry", "reject"):
            await client.portal.send("progresso.atualizar", name)
        seen = []
        async with client.portal.stream("progresso.atualizar", prefetch=1) as stream:
            async for item in stream:
                async with item as message:
                    seen.append((message.data, message.attempt))
                    if message.data == "retry" and message.attempt == 1:
                        raise Retry
                    if message.data == "reject":
                        raise Reject("unwanted")
                if len(seen) == 4:
                    break
        (dead,) = await world.dead_letters("portal", "progresso.atualizar")
    assert sorted(seen) == [("done", 1), ("reject", 1), ("retry", 1), ("retry", 2)]
    assert dead.headers[Header.REASON] == "unwanted"


async def test_an_exception_in_the_loop_retries_and_propagates(world: World) -> None:
    async with await world.connect() as client:
        await client.portal.send("certificados.gerar", "x")

        async def handle_badly() -> None:
            async with client.portal.stream("certificados.gerar") as stream:
                async for item in stream:
                    async with item:
                        raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await handle_badly()
    (left,) = await world.take(world.names.queue("portal", "certificados.gerar"), 1)
    assert left.headers["x-delivery-count"] == 1


async def test_consuming_an_action_outside_the_order_is_not_routable(world: World) -> None:
    async with await world.connect() as client:
        with pytest.raises(NotRoutable):
            await client.marketing.consume("campanhas.enviar", Seen())


async def test_a_retry_queue_returns_each_failed_message(queues_world: World) -> None:
    async def fail_twice(message: Message) -> None:
        if message.attempt <= 2:
            raise Retry

    seen = Seen(fail_twice)
    async with await queues_world.connect() as client:
        consumer = await client.portal.consume("progresso.atualizar", seen)
        await client.portal.send("progresso.atualizar", {"n": 1}, device="mobile")
        await seen.wait(3)
        await eventually_async(lambda: consumer.handled == 1)
    assert seen.attempts == [1, 2, 3]
    gaps = [later - earlier for earlier, later in zip(seen.times, seen.times[1:], strict=False)]
    assert all(gap > 0.9 * queues_world.second for gap in gaps)
    assert {message.route.exchange for message in seen.messages} == {queues_world.names.mobile_exchange}
    assert {message.route.routing_key for message in seen.messages} == {"mobile.portal.progresso.atualizar"}


async def test_with_retry_queues_the_last_failure_is_dead_lettered(
    queues_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kryonix.messaging")

    async def fail(message: Message) -> None:
        raise Retry

    seen = Seen(fail)
    async with await queues_world.connect() as client:
        await client.portal.consume("conteudo.processar", seen)
        await client.portal.send("conteudo.processar", {"n": 1}, message_id="q-1")
        (dead,) = await queues_world.dead_letters("portal", "conteudo.processar")
    assert (dead.message_id, json.loads(dead.body)) == ("q-1", {"n": 1})
    assert seen.attempts == [1, 2, 3]
    queue = queues_world.names.dead_letter_queue("portal", "conteudo.processar")
    assert "attempt 2 at message q-1 asks for a retry; again in 1 s (1 attempt left)" in caplog.text
    assert f"attempt 3 at message q-1 asks for a retry; now a dead letter in {queue}" in caplog.text
    assert "3 times" in dead.headers[Header.REASON]
    assert dead.headers[Header.FIRST_EXCHANGE] == queues_world.names.exchange
    assert dead.headers[Header.FIRST_KEY] == "portal.conteudo.processar.medium"


async def test_a_handler_can_tell_a_broadcast_also_after_a_retry(ai_world: World) -> None:
    async def fail_once(message: Message) -> None:
        if message.attempt == 1:
            raise Retry

    seen = Seen(fail_once)
    async with await ai_world.connect() as client:
        await client.analytics.consume("alertas.verificar", seen)
        await client.broadcast({"to": "all"})
        await client.analytics.send("alertas.verificar", {"to": "one"})
        await seen.wait(4)
    assert sorted((message.data["to"], message.broadcast, message.attempt) for message in seen.messages) == [
        ("all", True, 1),
        ("all", True, 2),
        ("one", False, 1),
        ("one", False, 2),
    ]


async def test_a_trace_continues_through_retries_to_the_dead_letter(world: World) -> None:
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    inside: list[int] = []

    async def fail_then_reject(message: Message) -> None:
        inside.append(trace.get_current_span().get_span_context().trace_id)
        raise Retry if message.attempt == 1 else Reject("no")

    async with await world.connect() as client:
        await client.portal.consume("progresso.atualizar", fail_then_reject)
        with trace.use_span(trace.NonRecordingSpan(context)):
            await client.portal.send("progresso.atualizar", {})
        (dead,) = await world.dead_letters("portal", "progresso.atualizar")
    assert inside == [0xABC, 0xABC]
    assert dead.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"


async def test_figures_are_read_with_the_tenants_credentials(world: World) -> None:
    async with await world.connect() as client:
        for _ in range(3):
            await client.financeiro.send("conciliacao.bancaria", {})

        async def counted() -> dict[str, QueueStats] | None:
            found = {queue.name: queue for queue in await client.queue_stats("financeiro")}
            return found if found[world.names.queue("financeiro", "conciliacao.bancaria")].depth == 3 else None

        stats = await eventually_async(counted, every=0.25)
        figures = stats[world.names.queue("financeiro", "conciliacao.bancaria")]
        kinds = {queue.kind for queue in await client.queue_stats()}
    assert (figures.kind, figures.action, figures.ready, figures.unacked) == ("action", "conciliacao.bancaria", 3, 0)
    assert {queue.module for queue in stats.values()} == {"financeiro"}
    assert kinds == {"action", "lane", "dead-letter", "unrouted"}
    await world.take(world.names.queue("financeiro", "conciliacao.bancaria"), 3)
