from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from typing import Any

import pytest

from kryonix.messaging import ConfigurationError, MemoryBroker, Message, NotConnected
from kryonix.messaging.consuming import consumer as consuming
from kryonix.messaging.reach import Reach
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


async def test_ended_consumers_and_streams_are_removed() -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        ended: list[weakref.ref[Any]] = []
        for _ in range(3):
            consumer = await client.crm.consume("leads.create", Seen())
            async with client.crm.stream("leads.update") as stream:
                ended += [weakref.ref(consumer), weakref.ref(stream)]
            await consumer.stop()
        del consumer, stream
        await client.crm.consume("leads.create", Seen())
        async with client.crm.stream("leads.update"):
            gc.collect()
            assert [each() for each in ended] == [None] * 6


async def test_stopping_twice_at_once_waits_twice_for_the_same_end() -> None:
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(message: Message) -> None:
        held.set()
        await released.wait()

    async with await MemoryBroker(modules=["crm"]).connect() as client:
        consumer = await client.crm.consume("leads.create", hold)
        await client.crm.send("leads.create", {})
        await held.wait()
        first, second = asyncio.create_task(consumer.stop()), asyncio.create_task(client.close())
        await asyncio.sleep(0.05)
        assert not first.done()
        assert not second.done()
        released.set()
        await asyncio.gather(first, second)
        assert consumer.handled == 1


async def test_a_cancelled_stop_continues_and_can_be_awaited_again() -> None:
    released = asyncio.Event()

    async def hold(message: Message) -> None:
        await released.wait()

    async with await MemoryBroker(modules=["crm"]).connect() as client:
        consumer = await client.crm.consume("leads.create", hold)
        await client.crm.send("leads.create", {})
        await eventually_async(lambda: consumer.in_progress == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.stop(), 0.05)
        released.set()
        await consumer.stop()
        assert (consumer.handled, consumer.stopped) == (1, True)


async def test_an_uncancellable_handler_does_not_block_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consuming, "_CANCEL_S", 0.05)
    released = asyncio.Event()

    async def deaf(message: Message) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    broker = MemoryBroker(modules=["crm"])
    async with await broker.connect() as client:
        consumer = await client.crm.consume("leads.create", deaf)
        await client.crm.send("leads.create", {})
        await eventually_async(lambda: consumer.in_progress == 1)
        async with asyncio.timeout(30):
            await consumer.stop(timeout=0.05)
        assert "ignore their cancellation" in caplog.text
        released.set()


async def test_a_handler_that_is_not_async_is_refused_at_once() -> None:
    done: Any = lambda message: None  # noqa: E731
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        with pytest.raises(ConfigurationError, match="<lambda> is not an async function"):
            await client.crm.consume("leads.create", done)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_ends_with_a_signal_after_the_current_messages(number: signal.Signals) -> None:
    released = asyncio.Event()

    async def hold(message: Message) -> None:
        await released.wait()

    before = signal.getsignal(number)
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        consumer = await client.crm.consume("leads.create", hold)
        await client.crm.send("leads.create", {})
        running = asyncio.create_task(client.run())
        await eventually_async(lambda: consumer.in_progress == 1 and signal.getsignal(number) != before)
        os.kill(os.getpid(), number)
        await eventually_async(lambda: not client.connected)
        os.kill(os.getpid(), number)
        await asyncio.sleep(0)
        assert not running.done()
        released.set()
        await asyncio.wait_for(running, 30)
        assert signal.getsignal(number) == before
        assert (consumer.handled, consumer.stopped) == (1, True)


async def test_running_ends_when_the_client_is_closed() -> None:
    client = await MemoryBroker(modules=["crm"]).connect()
    running = asyncio.create_task(client.run())
    await asyncio.sleep(0)
    await client.close()
    await asyncio.wait_for(running, 30)
    await asyncio.wait_for(client.run(), 30)


async def test_a_ping_raises_while_the_broker_is_away_or_the_client_closed() -> None:
    broker = MemoryBroker(modules=["crm"])
    async with await broker.connect() as client:
        await client.ping()
        broker.go_away()
        with pytest.raises(NotConnected, match="no connection to the memory broker"):
            await client.ping(timeout=0.01)
    with pytest.raises(NotConnected, match="closed"):
        await client.ping()


async def test_a_stream_is_entered_exactly_once() -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        stream = client.crm.stream("leads.create")
        with pytest.raises(ConfigurationError, match="async with"):
            await anext(stream)
        async with stream:
            with pytest.raises(ConfigurationError, match="twice"):
                await stream.__aenter__()


async def test_closing_fails_a_subscription_that_awaits_the_broker() -> None:
    class Silent:
        async def has_queue(self, queue: str, timeout: float) -> bool:
            await asyncio.sleep(3600)
            return True

    transport: Any = Silent()
    reach = Reach(transport)
    waiting = asyncio.create_task(reach.find(["queue"], 3600))
    await asyncio.sleep(0.01)
    reach.close()
    for finding in (waiting, reach.find(["queue"], 3600)):
        with pytest.raises(NotConnected, match="closed"):
            await asyncio.wait_for(finding, 30)


async def test_senders_share_the_brokers_answer_and_keep_their_own_deadlines() -> None:
    asked, answered = 0, asyncio.Event()

    class Slow:
        async def has_queue(self, queue: str, timeout: float) -> bool:
            nonlocal asked
            asked += 1
            await answered.wait()
            return queue == "there"

    transport: Any = Slow()
    reach = Reach(transport)
    finding = [asyncio.create_task(reach.find(["absent", "there"], 60)) for _ in range(50)]
    await asyncio.sleep(0.01)
    with pytest.raises(NotConnected, match="did not say in time whether it has absent or there"):
        await reach.find(["absent", "there"], 0.05)
    finding[0].cancel()
    answered.set()
    assert await asyncio.gather(*finding[1:]) == [True] * 49
    assert asked == 3  # the first one has left before its answer
    assert reach.is_known(["there"])
    assert not reach.is_known(["absent"])


async def test_subscribing_during_close_fails_and_leaks_nothing() -> None:
    broker = MemoryBroker(modules=["crm"])
    client = await broker.connect()
    await client.crm.send("leads.create", {})
    broker.go_away()
    consuming = asyncio.create_task(client.crm.consume("leads.create", Seen()))
    await asyncio.sleep(0.01)
    await client.close()
    broker.come_back()
    with pytest.raises(NotConnected, match="closed"):
        await consuming
    queue = broker.queues[broker.names.queue("crm", "leads.create")]
    assert (queue.consumers, queue.unacked) == (0, 0)
