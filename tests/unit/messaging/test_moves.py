"""A subscription that moves to another connection: exactly one channel consumes, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from kryonix.messaging.amqp import subscription
from kryonix.messaging.amqp.delivery import Unanswered
from kryonix.messaging.amqp.frames import Taker
from kryonix.messaging.amqp.subscription import AmqpSubscription

pytestmark = pytest.mark.anyio


class Channel:
    """A fake channel. The broker answers what is asked on it once `answers` is set."""

    number = 1

    def __init__(self, answers: asyncio.Event) -> None:
        self.answers, self.closing = answers, asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks = set[Any]()
        self.__close_event = asyncio.Event()  # aiormq's, set where it gives up a channel
        self.consuming = False

    @property
    def is_closed(self) -> bool:
        return self.closing.done()

    async def basic_qos(self, **_: Any) -> None:
        await self.answers.wait()

    async def basic_consume(self, *_: Any, **__: Any) -> None:
        self.consuming = True

    async def basic_cancel(self, tag: str, **_: Any) -> None:
        self.consuming = False

    async def close(self) -> None:
        self.consuming = False
        if not self.closing.done():
            self.closing.set_result(None)


class Link:
    """A fake link, whose connection needs no answer."""

    def __init__(self, connected: Made) -> None:
        self.connected = connected

    def add(self, user: object) -> None: ...

    def remove(self, user: object) -> None: ...

    async def connection(self, timeout: float) -> Any:
        return self.connected


class Made:
    """A subscription, and the connection with the channels that it has opened.

    `answers` stops the broker from answering on new ones.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.channels, self.answers = list[Channel](), asyncio.Event()
        self.answers.set()

        monkeypatch.setattr(subscription, "_PAUSE_S", 0.01)
        link: Any = Link(self)
        self.subscription = AmqpSubscription(link, ["q"], 1, lambda delivery: None, 60, Unanswered())

    writer = None

    def take(self, channel: Channel, taker: Taker) -> None: ...

    async def open_channel(self) -> Channel:
        self.channels.append(Channel(self.answers))
        return self.channels[-1]

    @property
    def consuming(self) -> int:
        return sum(channel.consuming for channel in self.channels)

    async def moving(self) -> asyncio.Task[None]:
        """Return a move that waits for the broker's answer."""
        await self.subscription.open(5)
        self.answers.clear()
        moving = asyncio.create_task(self.subscription.move())
        while len(self.channels) < 2:
            await asyncio.sleep(0)
        return moving


async def test_a_move_that_is_given_up_leaves_a_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection ends while the new channel is set up: nobody would consume, and nobody notice."""
    made = Made(monkeypatch)
    moving = await made.moving()
    moving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await moving
    made.answers.set()
    async with asyncio.timeout(10):
        while not made.consuming:
            await asyncio.sleep(0.01)
    assert made.consuming == 1
    await made.subscription.close()


async def test_a_channel_that_breaks_during_a_move_is_not_replaced_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch)
    moving = await made.moving()
    made.subscription._broken.set()
    await asyncio.sleep(0.05)
    made.subscription._broken.clear()  # as the new channel does
    made.answers.set()
    await moving
    await asyncio.sleep(0.05)
    assert made.consuming == 1
    await made.subscription.close()
    assert made.consuming == 0


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_a_subscription_that_ends_during_a_move_consumes_no_more(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(monkeypatch)
    moving = await made.moving()
    ending = asyncio.create_task(getattr(made.subscription, end)())
    await asyncio.sleep(0.05)
    made.answers.set()
    await asyncio.gather(moving, ending)
    assert made.consuming == 0
    await made.subscription.close()
