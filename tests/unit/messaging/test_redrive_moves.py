"""A redrive acknowledges every stored copy, however it ends: the next run must not move it again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq import exceptions as amqp

from kryonix.messaging.redrive import Reading, Tally
from kryonix.messaging.redrive.dead_letters import Origin
from kryonix.messaging.redrive.mover import Mover, _Copy
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names


class Channel:
    """A channel whose publications end as said, by routing key and in order; without a word they are stored."""

    def __init__(self, **endings: list[BaseException]) -> None:
        self.endings = endings
        self.acknowledged: list[int] = []
        self.is_closed = False

    async def basic_ack(self, tag: int) -> None:
        self.acknowledged.append(tag)

    async def basic_publish(self, body: bytes, *, routing_key: str, **_: Any) -> None:
        await asyncio.sleep(0)
        if endings := self.endings.get(routing_key):
            raise endings.pop(0)


def moved(**endings: list[BaseException]) -> tuple[Channel, Tally, list[int], BaseException | None]:
    """Move three messages, 1 to 3 with the keys a to c."""
    channel, ended = Channel(**endings), None
    tally = Tally("crm", "leads.create", "cliente_acme.crm.leads.create.dlq", 3)
    mover = Mover(cast(Any, None), cast(Any, channel), Names("acme"), default_catalog(), None, lambda _: None)
    letters = Reading(cast(Any, channel), tally.queue)
    letters.held = dict.fromkeys((1, 2, 3))
    copies = [
        _Copy(cast(Any, SimpleNamespace(delivery_tag=tag, body=b"x")), Origin("e", key), cast(Any, None))
        for tag, key in enumerate("abc", 1)
    ]
    try:
        asyncio.run(mover._move(copies, letters, tally))
    except (OSError, amqp.AMQPError) as error:
        ended = error
    return channel, tally, list(letters.held), ended


def test_all_stored_copies_are_acknowledged_if_one_has_no_answer() -> None:
    channel, tally, _, ended = moved(a=[TimeoutError()])
    assert isinstance(ended, TimeoutError)
    assert (channel.acknowledged, tally.moved) == ([2, 3], 2)


def test_all_stored_copies_are_acknowledged_if_the_connection_ends() -> None:
    channel, tally, _, ended = moved(a=[amqp.ChannelClosed(406, "too large"), ConnectionResetError("gone")])
    assert isinstance(ended, ConnectionResetError)
    assert (channel.acknowledged, tally.moved) == ([2, 3], 2)


@pytest.mark.parametrize(
    ("endings", "acknowledged", "held"),
    [
        ([], [1, 2, 3], []),
        ([amqp.ChannelClosed(406, "channel closed")], [1, 3, 2], []),
        ([amqp.ChannelClosed(406, "bad"), amqp.ChannelClosed(406, "bad")], [1, 3], [2]),
    ],
    ids=["stored", "stored the second time", "to blame"],
)
def test_each_message_is_acknowledged_once_or_held(
    endings: list[BaseException], acknowledged: list[int], held: list[int]
) -> None:
    channel, tally, left, ended = moved(b=endings)
    assert ended is None
    assert (channel.acknowledged, left, tally.moved) == (acknowledged, held, len(acknowledged))
    assert tally.uncopyable == len(held)
