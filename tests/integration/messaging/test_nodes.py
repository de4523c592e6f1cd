"""A client of several nodes while they fail. The nodes are ways to one broker: no cluster is needed to lose one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from kryonix.messaging import Message, MessagingClient
from kryonix.messaging.amqp import link
from kryonix.messaging.amqp.transport import AmqpTransport
from kryonix.messaging.configuration import Address, parse_uri
from tests.support.waiting import eventually_async
from tests.support.ways import Way, ways

pytestmark = pytest.mark.anyio

_EVERY_S: Final = 0.02


@pytest.fixture
def address(tenants: dict[str, tuple[str, str]]) -> Address:
    return parse_uri(*tenants["sdk"])


@dataclass
class Traffic:
    """Messages that a client sends and handles all the time."""

    client: MessagingClient
    nodes: list[Way]
    sent: list[int] = field(default_factory=list)
    handled: Counter[int] = field(default_factory=Counter)
    longest_gap: float = 0

    async def handle(self, message: Message) -> None:
        self.handled[int(message.data)] += 1

    async def send(self) -> None:
        last, number = time.monotonic(), 0
        while True:
            await self.client.portal.send("interacoes.track", number, timeout=120)
            self.longest_gap = max(self.longest_gap, time.monotonic() - last)
            self.sent.append(number)
            last, number = time.monotonic(), number + 1
            await asyncio.sleep(_EVERY_S)

    @property
    def transport(self) -> AmqpTransport:
        found = self.client._transport
        assert isinstance(found, AmqpTransport)
        return found

    @property
    def links(self) -> list[link.Link]:
        return self.transport._links

    @property
    def publishing(self) -> Way:
        """The way that messages are sent on."""
        assert self.transport._publisher is not None
        return self.way_of(self.transport._publisher._link)

    def way_of(self, of: link.Link) -> Way:
        return next(way for way in self.nodes if way.own_port == of.node.port)

    async def goes_on(self, messages: int = 20) -> None:
        goal = len(self.sent) + messages
        await eventually_async(lambda: len(self.sent) >= goal and len(self.handled) >= goal, 120)


@asynccontextmanager
async def traffic(address: Address) -> AsyncIterator[Traffic]:
    async with ways(address.host, address.port) as nodes:
        uri = replace(address, host="127.0.0.1", port=nodes[0].own_port).uri()
        everywhere = [node.address for node in nodes]
        client = await MessagingClient.connect(uri, addresses=everywhere, application="nodes")
        made = Traffic(client, nodes)
        await client.portal.consume("interacoes.track", made.handle)
        sending = asyncio.create_task(made.send())
        try:
            await made.goes_on()
            yield made
            await eventually_async(lambda: set(made.sent) <= made.handled.keys(), 60)
        finally:
            sending.cancel()
            await client.close()


async def test_a_killed_node_is_left_at_once(address: Address) -> None:
    async with traffic(address) as seen:
        await seen.publishing.cut()
        await seen.goes_on()
        assert seen.longest_gap < 3


async def test_a_frozen_node_is_left_within_ten_seconds(address: Address) -> None:
    async with traffic(address) as seen:
        frozen = seen.publishing
        frozen.freeze()
        await seen.goes_on()
        assert seen.publishing is not frozen
        assert 1 < seen.longest_gap < 10


async def test_a_client_goes_back_to_its_node_and_nothing_is_cut_off(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every message is handled once, though this client has no idempotency: its connections move one by one."""
    monkeypatch.setattr(link, "_AWAY_S", 0.5)
    async with traffic(address) as seen:
        homes = [seen.way_of(each) for each in seen.links]
        for way in set(homes):
            await way.cut()
        await eventually_async(lambda: caplog.text.count("connected again") == 2, 60)
        await eventually_async(lambda: "subscribed again" in caplog.text, 60)
        await seen.goes_on()
        lost, before = caplog.text.count("connection lost"), len(seen.sent)
        for way in set(homes):
            await way.open()
        await eventually_async(lambda: [seen.way_of(each) for each in seen.links] == homes, 60)
        await eventually_async(lambda: sum(way.connections for way in seen.nodes) == 2, 60)
        seen.longest_gap = 0
        await seen.goes_on()
        assert caplog.text.count("connection lost") == lost
        assert {times for number, times in seen.handled.items() if number > before} == {1}
