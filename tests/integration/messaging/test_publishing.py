"""Sending, against the real broker and the one in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from kryonix import __version__
from kryonix.messaging import (
    ConfigurationError,
    Decision,
    MessagingError,
    NotConnected,
    NotRoutable,
    NotSerializable,
    Outgoing,
    QueueFull,
    UnknownRoute,
)
from kryonix.messaging.encoding import inflate
from kryonix.messaging.message import RECEIVED_HEADER
from tests.support.broker_under_test import World
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

ADDRESSED = [
    # module, action, options, exchange, key, priority
    ("crm", "leads.create", {}, "", "crm.leads.create.medium", 5),
    ("crm", "leads.create", {"priority": 4}, "", "crm.leads.create.low", 4),
    ("crm", "leads.create", {"device": "mobile"}, ".mobile_priority", "mobile.crm.leads.create", 5),
    ("crm", "leads.create", {"priority": 8}, ".business_critical", "critical.crm.leads.create", 8),
    ("crm", "leads.create", {"priority": 9, "device": "mobile"}, ".business_critical", "critical.crm.leads.create", 9),
    ("crm", "leads.update", {"priority": 9}, "", "crm.leads.update.high", 9),
    ("financeiro", "faturas.create", {"device": "mobile"}, "", "financeiro.faturas.create.medium", 5),
    ("whatsapp", "media.process", {"priority": 10}, "", "whatsapp.media.process.high", 10),
    ("whatsapp", "media.process", {"expires": 10}, "", "whatsapp.media.process.high", 8),
]


@pytest.mark.parametrize(("module", "action", "options", "exchange", "key", "priority"), ADDRESSED)
async def test_a_send_result_explains_the_route(
    world: World, module: Any, action: Any, options: dict[str, Any], exchange: str, key: str, priority: int
) -> None:
    async with await world.connect() as client:
        result = await client.send(module, action, {"n": 1}, **options)
    assert (result.exchange, result.routing_key, result.priority) == (world.names.exchange + exchange, key, priority)
    assert result.decision
    queue = world.names.queue(module, action)
    lane = world.names.lane("crm", "leads.update", "high")
    (arrived,) = await world.take(lane if action == "leads.update" else queue, 1)
    assert (arrived.message_id, arrived.priority, json.loads(arrived.body)) == (result.message_id, priority, {"n": 1})


async def test_a_message_carries_sender_type_and_custom_headers(world: World) -> None:
    async with await world.connect(application="shop") as client:
        await client.send("crm", "leads.qualify", {"é": 1}, message_id="mine-1", headers={"tipo": "x", "vezes": 3})
    (arrived,) = await world.take(world.names.queue("crm", "leads.qualify"), 1)
    assert arrived.message_id == "mine-1"
    assert arrived.app_id == "shop"
    assert arrived.content_type == "application/json"
    assert arrived.timestamp is not None
    stamp = arrived.headers.pop(RECEIVED_HEADER)
    assert abs(stamp / 1000 - time.time()) < 300
    assert arrived.headers == {
        "cliente-id": "sdk",
        "modulo": "crm",
        "acao": "leads.qualify",
        "mobile-optimized": False,
        "kryonix-sdk-version": __version__,
        "tipo": "x",
        "vezes": 3,
    }


async def test_each_module_has_a_facade_with_its_priority(world: World) -> None:
    async with await world.connect() as client:
        assert (await client.whatsapp.send("messages.send", {})).priority == 8
        assert (await client.financeiro.send("cobranca.automatica", {})).priority == 9
        assert (await client.whatsapp.send("messages.send", {}, priority=2)).priority == 2
        assert (await client.agendamento.send("agenda.create", {})).priority == 5
        assert (await client.module("portal").send("treinamentos.sync", {})).priority == 5
        assert (await client.module("financeiro").send("cobranca.automatica", {})).priority == 9
    for module, action, count in (
        ("whatsapp", "messages.send", 2),
        ("financeiro", "cobranca.automatica", 2),
        ("agendamento", "agenda.create", 1),
        ("portal", "treinamentos.sync", 1),
    ):
        await world.take(world.names.queue(module, action), count)


async def test_a_broadcast_reaches_ai_routing_modules_only(ai_world: World) -> None:
    async with await ai_world.connect() as client:
        result = await client.broadcast({"all": True})
    assert (result.exchange, result.routing_key) == (ai_world.names.automation_exchange, "")
    for action in ai_world.catalog.modules["analytics"].actions:
        (arrived,) = await ai_world.take(ai_world.names.queue("analytics", action), 1)
        assert arrived.message_id == result.message_id
    queues = [ai_world.names.queue("whitelabel", action) for action in ai_world.catalog.modules["whitelabel"].actions]
    assert all(await asyncio.gather(*map(ai_world.is_empty, queues)))


async def test_a_broadcast_without_receivers_is_not_routable(queues_world: World) -> None:
    async with await queues_world.connect() as client:
        with pytest.raises(NotRoutable):
            await client.broadcast({})
    assert await queues_world.unrouted() == 0


async def test_a_module_outside_the_order_is_not_routable(world: World) -> None:
    async with await world.connect() as client:
        with pytest.raises(NotRoutable, match="marketing") as failure:
            await client.send("marketing", "campanhas.enviar", {}, message_id="m-7")
    assert failure.value.message_id == "m-7"
    assert failure.value.remedy in str(failure.value)
    assert await world.unrouted() == 0


@pytest.mark.parametrize(
    ("module", "action", "hint"),
    [("cmr", "leads.create", "'crm'"), ("crm", "leads.crate", "'leads.create'"), ("crm", "messages.send", "allowed")],
)
async def test_an_unknown_module_or_action_is_refused_with_the_nearest_name(
    world: World, module: str, action: str, hint: str
) -> None:
    async with await world.connect() as client:
        with pytest.raises(UnknownRoute, match="(?i)" + hint):
            await client.module(module).send(action, {})
        with pytest.raises(UnknownRoute, match="(?i)" + hint):
            await client.module(module).consume(action, Seen())


async def test_a_full_queue_refuses_messages_until_there_is_room(queues_world: World) -> None:
    queue = queues_world.names.queue("portal", "treinamentos.sync")
    async with await queues_world.connect() as client:
        sent, refused = 0, None
        for number in range(200):
            try:
                await client.portal.send("treinamentos.sync", {"n": number}, message_id=f"full-{number}")
                sent += 1
            except QueueFull as error:
                refused = error
                break
        assert refused is not None
        # A quorum queue counts what is on its way and may take a few more than it should.
        assert 10 <= sent <= 60
        assert refused.message_id == f"full-{sent}"
        await queues_world.take(queue, sent)
        # The broker learns a moment later that there is room again.
        send = partial(client.portal.send, "treinamentos.sync", {}, message_id="after")
        await eventually_async(send, every=0.1, ignoring=(QueueFull,))
    (arrived,) = await queues_world.take(queue, 1)
    assert arrived.message_id == "after"


@pytest.mark.parametrize("data", [{1, 2}, object(), float("nan"), {"x": {"y": b"z"}}, {("a",): 1}, "\ud800"])
async def test_unserialisable_data_is_refused_before_sending(world: World, data: object) -> None:
    async with await world.connect() as client:
        with pytest.raises(NotSerializable) as failure:
            await client.send("crm", "tasks.assign", data, message_id="m-1")
    assert failure.value.message_id == "m-1"


async def test_oversized_data_is_refused_before_sending(world: World) -> None:
    async with await world.connect() as client:
        with pytest.raises(NotSerializable, match="16,777,2"):
            await client.send("crm", "tasks.assign", b"x" * (16 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 11},
        {"priority": -1},
        {"priority": True},
        {"expires": 0},
        {"expires": float("nan")},
        {"expires": "1h"},
        {"timeout": 0},
        {"message_id": "x" * 256},
        {"message_id": "a\nb"},
        {"headers": {"cliente-id": "other"}},
    ],
)
async def test_invalid_options_are_refused(world: World, options: dict[str, Any]) -> None:
    async with await world.connect() as client:
        with pytest.raises(ConfigurationError):
            await client.send("crm", "tasks.assign", {}, **options)


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
async def test_compressible_mobile_messages_are_compressed(world: World, compression: str) -> None:
    data = {"text": "bom dia " * 500}
    queue = world.names.queue("whatsapp", "conversations.sync")
    async with await world.connect(compression=compression) as client:
        result = await client.whatsapp.send("conversations.sync", data, device="mobile")
        assert result.mobile_optimized
        assert result.bytes < 400
        (arrived,) = await world.take(queue, 1)
        assert arrived.content_encoding == compression
        assert json.loads(inflate(arrived.body, compression)) == data
        assert arrived.headers["mobile-optimized"] is True
        await client.whatsapp.send("conversations.sync", {"short": 1}, device="mobile")
        await client.whatsapp.send("conversations.sync", data, device="web")
        for plain in await world.take(queue, 2):
            assert plain.content_encoding is None


async def test_a_message_expires_by_the_callers_or_the_catalogs_ttl(world: World) -> None:
    async with await world.connect() as client:
        await client.agendamento.send("lembretes.send", {}, message_id="caller", expires=1)
        await client.agendamento.send("lembretes.send", {}, message_id="catalog", device="mobile")
        await client.agendamento.send("lembretes.send", {}, message_id="stays", device="web")
    dead = await world.dead_letters("agendamento", "lembretes.send", 2)
    assert {letter.message_id for letter in dead} == {"caller", "catalog"}
    (left,) = await world.take(world.names.queue("agendamento", "lembretes.send"), 1)
    assert left.message_id == "stays"


async def test_a_failing_message_of_a_batch_stops_no_other(world: World) -> None:
    async def messages() -> AsyncIterator[Outgoing]:
        for number in range(300):
            yield Outgoing("crm", "contacts.sync", {"n": number}, message_id=f"n{number}")
        yield Outgoing("marketing", "emails.processar", {}, message_id="unbought")
        yield Outgoing("crm", "contacts.sync", object(), message_id="unserialisable")

    async with await world.connect() as client:
        batch = await client.send_many(messages(), window=50)
    assert [result.message_id for result in batch.sent] == [f"n{number}" for number in range(300)]
    assert [(message.message_id, type(error)) for message, error in batch.failed] == [
        ("unbought", NotRoutable),
        ("unserialisable", NotSerializable),
    ]
    with pytest.raises(ExceptionGroup):
        batch.raise_for_failed()
    arrived = await world.take(world.names.queue("crm", "contacts.sync"), 300)
    assert {letter.message_id for letter in arrived} == {f"n{number}" for number in range(300)}


async def test_messages_sent_during_connecting_keep_their_order(world: World) -> None:
    first, all_of_them = 100, 2400
    numbers, confirmed = itertools.count(), list[int]()

    async with await world.connect() as client:

        async def work() -> None:
            while (number := next(numbers)) < all_of_them:
                await client.crm.send("contacts.sync", number)
                confirmed.append(number)

        await asyncio.gather(*(work() for _ in range(first)))
    assert max(confirmed.index(number) for number in range(first)) < all_of_them / 2
    await world.take(world.names.queue("crm", "contacts.sync"), all_of_them)


class _Hanging:
    async def decide(self, message: Outgoing) -> Decision:
        await asyncio.sleep(3600)
        raise AssertionError


class _Failing:
    async def decide(self, message: Outgoing) -> Decision:
        raise RuntimeError("no model")


class _Wrong:
    async def decide(self, message: Outgoing) -> Decision:
        return Decision("mobile", 99, True, "guessed")


class _Vague:
    async def decide(self, message: Outgoing) -> Decision:
        return Decision("main", 5, object(), "guessed")  # type: ignore[arg-type]


class _Cancelled:
    async def decide(self, message: Outgoing) -> Decision:
        raise asyncio.CancelledError


class _Chosen:
    async def decide(self, message: Outgoing) -> Decision:
        return Decision("mobile", 7, True, "the model said so")


@pytest.mark.parametrize(
    ("router", "words"),
    [
        (_Hanging(), "longer than"),
        (_Failing(), "no model"),
        (_Wrong(), "priority"),
        (_Vague(), "not a boolean"),
        (_Cancelled(), "cancelled"),
    ],
)
async def test_a_failing_or_hanging_custom_router_loses_no_message(world: World, router: object, words: str) -> None:
    async with await world.connect(router=router, router_timeout=0.05) as client:
        result = await asyncio.wait_for(client.send("crm", "pipelines.update", {}), 30)
    assert result.routing_key == "crm.pipelines.update.medium"
    assert words in result.decision
    await world.take(world.names.queue("crm", "pipelines.update"), 1)


async def test_a_custom_router_decides(world: World) -> None:
    async with await world.connect(router=_Chosen()) as client:
        result = await client.send("crm", "pipelines.update", {})
    assert (result.routing_key, result.priority, result.decision) == (
        "mobile.crm.pipelines.update",
        7,
        "the model said so",
    )
    await world.take(world.names.queue("crm", "pipelines.update"), 1)


async def test_a_closed_client_is_reported(world: World) -> None:
    client = await world.connect()
    await client.close()
    await client.close()
    assert not client.connected
    for call in (
        client.send("crm", "leads.create", {}),
        client.consume("crm", "leads.create", Seen()),
        client.queue_stats(),
        client.broadcast({}),
        client.send_many([]),
    ):
        with pytest.raises(NotConnected, match="closed"):
            await call


async def test_every_error_of_the_package_names_the_message_and_the_remedy(world: World) -> None:
    async with await world.connect() as client:
        with pytest.raises(MessagingError) as failure:
            await client.send("marketing", "campanhas.enviar", {}, message_id="m-9")
    assert "m-9" in str(failure.value)
    assert str(failure.value).endswith(failure.value.remedy)
