"""The publisher of events goes to the next of the broker's nodes when one does not take them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import aio_pika
import pytest

from kryonix.signup.database import Database
from kryonix.signup.events import EventPublisher

URI = "amqp://events:a-secret@one:5672/%2Fkryonix-master"


class Outbox:
    """A database with one event that waits."""

    def execute(self, *_: Any) -> Any:
        event = {"id": 1, "event": "tenant.created", "payload": {}, "created_at": SimpleNamespace(isoformat=str)}
        return SimpleNamespace(fetchall=lambda: [event])

    @contextmanager
    def transaction(self) -> Iterator[Outbox]:
        yield self


@pytest.mark.parametrize("others", [(), ("one:5672",), ("one:5672", "two:5672", "[fd00::3]:5672")])
def test_after_a_failure_the_next_node_is_tried(others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def refuse(uri: str, **_: Any) -> None:
        asked.append(uri)
        raise ConnectionRefusedError("nobody is there")

    async def rounds() -> None:
        publisher = EventPublisher(cast("Database", Outbox()), URI, addresses=others)
        for _ in range(4):
            assert await publisher._round() > 1, "it waits before it tries again"

    monkeypatch.setattr(aio_pika, "connect", AsyncMock(side_effect=refuse))
    asyncio.run(rounds())
    hosts = ["one:5672", *others[1:]] * 4
    assert asked == [f"amqp://events:a-secret@{host}/%2Fkryonix-master" for host in hosts[:4]]
