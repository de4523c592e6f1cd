"""Messages requeued by the consumer timeout or by a disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from kryonix.messaging import ConfigurationError, Message, MessagingClient, Outgoing
from kryonix.messaging.configuration import Address, parse_uri
from kryonix.messaging.consuming import consumer as consuming
from kryonix.topology.naming import Names
from tests.integration.messaging.conftest import catalog_of
from tests.support.amqp import Account
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

SHORT = 2.0
"""Seconds of the consumer timeout that a policy sets in these tests."""


@pytest.fixture
def address(emptied: dict[str, tuple[str, str]]) -> Address:
    return parse_uri(*emptied["sdk"])


@pytest.fixture
def admin(operator: Account, address: Address) -> Account:
    return operator.at(address.vhost)


@pytest.fixture
def impatient(admin: Account, address: Address) -> Iterator[str]:
    """The queue of crm's reports.generate, with a short consumer timeout by policy."""
    queue = Names(address.tenant_id).queue("crm", "reports.generate")
    definition = {"consumer-timeout": int(SHORT * 1000), "delivery-limit": 2}
    policy = {"pattern": f"^{queue}$", "definition": definition, "priority": 99, "apply-to": "queues"}
    admin.call("PUT", "policies", address.vhost, "impatient", json=policy).raise_for_status()
    yield queue
    admin.call("DELETE", "policies", address.vhost, "impatient").raise_for_status()


@pytest.fixture
async def client(address: Address, anyio_backend: str) -> AsyncIterator[MessagingClient]:
    connecting = MessagingClient.connect(address.uri(), application="lost", catalog=catalog_of("sdk"))
    async with await connecting as made:
        yield made


async def _timeout_of(admin: Account, queue: str) -> None:
    """Wait until the policy holds."""

    def holds() -> bool:
        found = admin.get("queues", admin.vhost, queue).get("effective_policy_definition") or {}
        return "consumer-timeout" in found

    await eventually_async(partial(asyncio.to_thread, holds), every=0.2)


async def _left(admin: Account, queue: str) -> int:
    """What is in the queue, ready or unanswered, once the broker's figures agree on nothing or for a while."""
    found = -1
    for _ in range(120):
        figures = await asyncio.to_thread(admin.get, "queues", admin.vhost, queue)
        if (found := figures.get("messages", -1)) == 0:
            return 0
        await asyncio.sleep(0.5)
    return found


async def test_a_handler_beyond_the_consumer_timeout_runs_once(
    client: MessagingClient, admin: Account, impatient: str
) -> None:
    await _timeout_of(admin, impatient)

    async def slow(message: Message) -> None:
        await asyncio.sleep(3 * SHORT)

    seen = Seen(slow)
    consumer = await client.crm.consume("reports.generate", seen, handler_timeout=300)
    await client.crm.send("reports.generate", {})
    await eventually_async(lambda: consumer.handled == 1, 120)
    assert await _left(admin, impatient) == 0
    assert seen.attempts == [1]


async def test_messages_waiting_beyond_the_consumer_timeout_run_once(
    client: MessagingClient, admin: Account, impatient: str
) -> None:
    await _timeout_of(admin, impatient)

    async def half_a_second(message: Message) -> None:
        await asyncio.sleep(SHORT / 4)

    seen = Seen(half_a_second)
    await client.send_many(_messages("reports.generate", 20))
    consumer = await client.crm.consume("reports.generate", seen, concurrency=1)
    await eventually_async(lambda: consumer.handled >= 20, 120)
    assert await _left(admin, impatient) == 0
    assert sorted(message.data for message in seen.messages) == list(range(20))


def _messages(action: str, count: int) -> list[Outgoing]:
    return [Outgoing("crm", action, number) for number in range(count)]


async def test_a_message_requeued_during_handling_is_answered_on_redelivery(
    client: MessagingClient,
    admin: Account,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(consuming, "ANSWER_WITHIN_S", 1.0)
    queue = Names(address.tenant_id).queue("crm", "reports.generate")
    released = asyncio.Event()

    async def hold(message: Message) -> None:
        await released.wait()

    seen = Seen(hold)
    consumer = await client.crm.consume("reports.generate", seen, handler_timeout=None)
    sent = await client.crm.send("reports.generate", {})
    await eventually_async(lambda: caplog.text.count("came again, and is still being handled") == 2, 120)
    assert "the broker has cancelled the consumer" in caplog.text
    assert "the answers of 1 messages wait" in caplog.text
    released.set()
    await eventually_async(lambda: consumer.handled == 1, 60)
    assert await _left(admin, queue) == 0
    assert [message.message_id for message in seen.messages] == [sent.message_id]


async def test_a_lost_answer_is_repeated_on_redelivery(
    client: MessagingClient, admin: Account, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Names(address.tenant_id).queue("crm", "reports.generate")
    released = asyncio.Event()

    async def hold(message: Message) -> None:
        await released.wait()

    seen = Seen(hold)
    consumer = await client.crm.consume("reports.generate", seen)
    sent = await client.crm.send("reports.generate", {})
    await seen.wait(1)
    await _cut(admin)
    await eventually_async(lambda: "subscription lost" in caplog.text, 60)
    released.set()
    await eventually_async(lambda: consumer.handled == 1, 60)
    await eventually_async(lambda: "it is not handled twice" in caplog.text, 60)
    assert await _left(admin, queue) == 0
    assert len(seen.messages) == 1
    assert caplog.text.count(f"cannot answer message {sent.message_id}") <= 1


async def _cut(admin: Account) -> None:
    """Close the client's connections, as an administrator does."""

    async def both() -> list[str]:
        found = await asyncio.to_thread(admin.get, "connections")
        mine = [each["name"] for each in found if each.get("user_provided_name") == "sdk/lost"]
        return mine if len(mine) == 2 else []

    for name in await eventually_async(both, every=0.2):
        await asyncio.to_thread(admin.call, "DELETE", "connections", name)


async def test_messages_waiting_at_a_disconnect_are_handled_once(
    client: MessagingClient, admin: Account, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Names(address.tenant_id).queue("crm", "reports.generate")
    released = asyncio.Event()

    async def hold(message: Message) -> None:
        await released.wait()

    seen = Seen(hold)
    await client.send_many(_messages("reports.generate", 20))
    consumer = await client.crm.consume("reports.generate", seen, concurrency=1)
    await seen.wait(1)
    await _cut(admin)
    await eventually_async(lambda: "subscription lost" in caplog.text, 60)
    released.set()
    await eventually_async(lambda: consumer.handled >= 20, 60)
    assert await _left(admin, queue) == 0
    assert sorted(message.data for message in seen.messages) == list(range(20))


async def test_a_stream_drops_messages_of_an_ended_connection(
    client: MessagingClient, admin: Account, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Names(address.tenant_id).queue("crm", "reports.generate")
    await client.send_many(_messages("reports.generate", 10))
    taken: list[object] = []
    async with client.crm.stream("reports.generate") as stream:
        async for item in stream:
            async with item as message:
                taken.append(message.data)
                if len(taken) == 1:
                    await _cut(admin)
                    await eventually_async(lambda: "subscription lost" in caplog.text, 60)
            if len(taken) == 10:
                break
        assert await _left(admin, queue) == 0
    assert sorted(taken, key=str) == list(range(10))


async def test_a_handler_timeout_beyond_the_brokers_limit_is_refused(client: MessagingClient) -> None:
    with pytest.raises(ConfigurationError, match=r"handler_timeout 86,401 s is longer .* 86,400 s"):
        await client.crm.consume("reports.generate", Seen(), handler_timeout=86_401)
