"""The messages that arrive on a channel, put together from their frames, and the answers to them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final

from aiormq.channel import Channel

from kryonix.messaging.amqp.connection import Connection
from kryonix.messaging.amqp.frames import CHANNEL_CLOSE, HEADER, METHOD
from kryonix.messaging.amqp.properties import decode_envelope
from kryonix.messaging.message import Envelope

_DELIVER: Final = b"\x00\x3c\x00\x3c"
_ANSWER: Final = struct.Struct(">BHIHHQBB")
"""The frame of an answer: the frame's head, class, method, delivery tag, bits, and the frame's end."""
_SIZE, _BASIC, _END = 13, 60, 0xCE
_ACK, _REJECT, _NACK = 80, 90, 120
_REQUEUE_REJECTED, _REQUEUE_NACKED = 1, 2

Receive = Callable[[int, bool, Envelope], None]
"""Takes a message: its delivery tag, whether it was delivered before, and itself."""


class DeliveryChannel:
    """An open channel that consumes."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self._number, self._writer = channel.number, connection.writer
        self._closing, self._channel = False, channel
        self._given_up: asyncio.Event = vars(channel)["_Channel__close_event"]
        self._receivers: dict[bytes, Receive] = {}
        self._receive: Receive | None = None
        self._tag, self._again, self._route, self._envelope = 0, False, ("", ""), Envelope("", "", b"", "")
        self._left = 0
        """Bytes that are missing of the body."""
        self._pieces: list[bytes] = []
        connection.take(channel, self._take)

    @property
    def ended(self) -> bool:
        """True if answers no longer arrive."""
        # aiormq closes a channel where a question is not answered in time. RabbitMQ ends the connection for an answer
        # after that.
        return self._closing or self._channel.is_closed or self._given_up.is_set()

    def on_delivery(self, consumer_tag: str, receive: Receive) -> None:
        self._receivers[consumer_tag.encode()] = receive

    def _take(self, kind: int, buffer: bytes, begin: int, end: int) -> bool:
        if kind == METHOD:
            method = buffer[begin : begin + 4]
            if method != _DELIVER:
                self._closing = self._closing or method in CHANNEL_CLOSE
                return False
            at = begin + 5 + buffer[begin + 4]
            self._receive = self._receivers.get(buffer[begin + 5 : at])
            self._tag, self._again = int.from_bytes(buffer[at : at + 8]), bool(buffer[at + 8] & 1)
            key = at + 10 + buffer[at + 9]
            self._route = _name(buffer[at + 10 : key]), _name(buffer[key + 1 : key + 1 + buffer[key]])
            return True
        if kind == HEADER:
            self._envelope, self._left = decode_envelope(buffer[begin:end], *self._route)
        else:
            self._pieces.append(buffer[begin:end])
            self._left -= end - begin
        if self._left <= 0:
            self._envelope.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            if self._receive is not None:
                self._receive(self._tag, self._again, self._envelope)
        return True

    def ack(self, tag: int) -> None:
        self._writer.write(_ANSWER.pack(METHOD, self._number, _SIZE, _BASIC, _ACK, tag, 0, _END))

    def reject(self, tag: int, *, requeue: bool) -> None:
        bits = _REQUEUE_REJECTED if requeue else 0
        self._writer.write(_ANSWER.pack(METHOD, self._number, _SIZE, _BASIC, _REJECT, tag, bits, _END))

    def give_back(self, tag: int) -> None:
        """Return a message: the broker counts no delivery."""
        self._writer.write(_ANSWER.pack(METHOD, self._number, _SIZE, _BASIC, _NACK, tag, _REQUEUE_NACKED, _END))


def _name(written: bytes) -> str:
    """Return an exchange or a routing key, which another application may have written in any encoding."""
    return written.decode(errors="backslashreplace")
