"""A connection to a broker that exists only as frames: what was written, and what the broker sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pamqp.frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.frames import Taker


class Channel:
    """An open channel of aiormq. End it by its `closing`."""

    def __init__(self, number: int = 1) -> None:
        self.number, self.closing = number, asyncio.get_running_loop().create_future()
        self.__close_event = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        return self.closing.done()

    def give_up(self) -> None:
        """Do what aiormq does where a question is not answered in time."""
        self.__close_event.set()


class Wire:
    """The connection and its writer. `on_message` is called with the number of each message that is written."""

    def __init__(self, on_message: Callable[[int], None] = lambda number: None, *, frame_max: int = 131_072) -> None:
        self.loop = asyncio.get_running_loop()
        self.connection_tune = SimpleNamespace(frame_max=frame_max)
        self.writer: Any = self
        self.is_full = False
        self.written: list[bytes] = []
        self.takers: dict[int, Taker] = {}
        self._on_message = on_message

    def take(self, channel: Any, taker: Taker) -> None:
        self.takers[channel.number] = taker

    def write(self, *parts: bytes) -> None:
        self.written.append(b"".join(parts))
        self.loop.call_soon(self._on_message, len(self.written))

    async def drain(self) -> None: ...

    @property
    def frames(self) -> list[Any]:
        """The frames that were written."""
        data, found = b"".join(self.written), []
        while data:
            used, _, frame = pamqp.frame.unmarshal(data)
            found.append(frame)
            data = data[used:]
        return found

    def send(self, frame: Any, number: int = 1) -> bool:
        """Let the broker send a frame. Return True if the channel takes it."""
        return self.send_bytes(pamqp.frame.marshal(frame, number), number)

    def send_bytes(self, data: bytes, number: int = 1) -> bool:
        return self.takers[number](data[0], data, 7, len(data) - 1)

    def give_back(self, message_id: str, exchange: str, routing_key: str) -> None:
        """Let the broker return a message that no queue takes."""
        self.send(Basic.Return(312, "NO_ROUTE", exchange, routing_key))
        self.send(ContentHeader(body_size=0, properties=Basic.Properties(message_id=message_id, headers={"a": 1})))
