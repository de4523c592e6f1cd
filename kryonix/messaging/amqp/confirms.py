"""A channel in confirm mode: messages written at once, and the broker's answer to each."""

from __future__ import annotations

import asyncio
import math
import struct
import sys
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final, Literal, NamedTuple

from aiormq import exceptions as amqp
from aiormq.channel import Channel
from pamqp import encode

from kryonix.messaging.amqp.connection import Connection
from kryonix.messaging.amqp.failures import too_large
from kryonix.messaging.amqp.frames import BODY, CHANNEL_CLOSE, FRAME_END, FRAME_HEAD, HEADER, METHOD, OVERHEAD
from kryonix.messaging.amqp.properties import message_id_of
from kryonix.messaging.errors import AccessRefused, MessagingError, NotRoutable, NotSerializable, QueueFull
from kryonix.messaging.message import Envelope

_PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"
"""Class and method of basic.publish, and a reserved number."""
_MANDATORY: Final = b"\x01"
_ACK, _NACK, _RETURN = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78", b"\x00\x3c\x00\x32"
_CONTENT: Final = struct.Struct(">BHIHHQ")
"""A content header's frame up to its properties: the frame's head, class, weight, and bytes of the body."""
_BASIC: Final = 60
_ROUTES: Final = 1_000
"""Method frames kept."""
_CLOCK_S: Final = 0.001
"""The event loop may call a timer this much early."""

Answer = MessagingError | Literal["stored", "cut off", "unsent", "late"]
"""The broker's answer: a refusal, or stored; or why there is none.

The channel has ended, after or before the message was written; or the deadline was first.
"""


class _Due(NamedTuple):
    """A message without an answer yet."""

    answer: asyncio.Future[Answer]
    envelope: Envelope
    deadline: float


class ConfirmChannel:
    """An open channel in confirm mode."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self._number = channel.number
        self._loop = connection.loop
        self.writer = connection.writer
        self.frame_max = connection.connection_tune.frame_max or sys.maxsize
        self.ended = False
        self._due: dict[int, _Due] = {}
        self._last = 0
        """The delivery tag of the last message: the broker counts them too."""
        self._methods: dict[tuple[str, str], bytes] = {}
        self._unrouted = b""
        """Exchange and routing key of the message that the broker is giving back."""
        self._room = asyncio.Lock()
        self._draining: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expires = math.inf
        connection.take(channel, self._take)
        channel.closing.add_done_callback(self._closed)

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def size_of(self, properties: bytes) -> int:
        """Return the size of a content header's frame in bytes."""
        return _CONTENT.size + len(properties) + len(FRAME_END)

    async def room(self) -> None:
        """Wait until the broker reads again, or the channel has ended. Raises OSError for a lost connection."""
        async with self._room:  # one by one: each may fill it again
            while self.writer.is_full and not self.ended:
                try:
                    async with asyncio.timeout(None) as self._draining:
                        await self.writer.drain()
                except TimeoutError:  # the channel has ended
                    return
                finally:
                    self._draining = None

    def publish(self, envelope: Envelope, properties: bytes, deadline: float) -> asyncio.Future[Answer]:
        """Write a message. The result has an answer by `deadline`, a time of the event loop.

        Raises NotSerializable, before writing anything, for names that AMQP has no room for.
        """
        number, body = self._number, envelope.body
        head = _CONTENT.pack(HEADER, number, _CONTENT.size - FRAME_HEAD.size + len(properties), _BASIC, 0, len(body))
        method = self._methods.get((envelope.exchange, envelope.routing_key)) or self._method(envelope)
        if 0 < len(body) <= self.frame_max - OVERHEAD:
            content = FRAME_HEAD.pack(BODY, number, len(body))
            self.writer.write(method, head, properties, FRAME_END, content, body, FRAME_END)
        else:
            self.writer.write(method, head, properties, FRAME_END, *self._pieces(body))
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._last += 1
        self._due[self._last] = _Due(answer, envelope, deadline)
        if deadline < self._expires:
            self._expire_at(deadline)
        return answer

    def _method(self, envelope: Envelope) -> bytes:
        """Return the frame of a route. Raises NotSerializable."""
        try:
            payload = _PUBLISH + _names(envelope) + _MANDATORY
        except (ValueError, TypeError) as error:
            raise NotSerializable(
                f"its exchange {envelope.exchange} or routing key {envelope.routing_key} can't be written: {error}",
                remedy="AMQP has room for 255 bytes of UTF-8 in each",
            ) from error
        if len(self._methods) >= _ROUTES:
            self._methods.clear()
        method = FRAME_HEAD.pack(METHOD, self._number, len(payload)) + payload + FRAME_END
        self._methods[envelope.exchange, envelope.routing_key] = method
        return method

    def _pieces(self, body: bytes) -> list[bytes]:
        """Return the frames of a body of any size."""
        most = self.frame_max - OVERHEAD
        parts: list[bytes] = []
        for at in range(0, len(body), most):
            piece = body[at : at + most]
            parts += (FRAME_HEAD.pack(BODY, self._number, len(piece)), piece, FRAME_END)
        return parts

    def _expire_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._expires = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Answer the messages whose deadline has come. One timer serves all: most have the same patience."""
        self._timer, self._expires = None, math.inf
        now = self._loop.time() + _CLOCK_S
        for tag, due in tuple(self._due.items()):
            if due.deadline <= now:
                del self._due[tag]
                _answer(due, "late")
        if self._due:
            self._expire_at(min(due.deadline for due in self._due.values()))

    def _take(self, kind: int, buffer: bytes, begin: int, end: int) -> bool:
        if kind != METHOD:  # of a returned message
            if kind == HEADER:
                self._returned(message_id_of(buffer[begin:end]))
            return True
        method = buffer[begin : begin + 4]
        if method in (_ACK, _NACK):
            tag = int.from_bytes(buffer[begin + 4 : begin + 12])
            self._answered(tag, bool(buffer[begin + 12] & 1), method == _ACK)
            return True
        if method == _RETURN:  # a code, a text, and the names
            self._unrouted = buffer[begin + 7 + buffer[begin + 6] : end]
            return True
        self.ended = self.ended or method in CHANNEL_CLOSE
        return False

    def _answered(self, tag: int, multiple: bool, stored: bool) -> None:
        for number in tuple(takewhile(tag.__ge__, self._due)) if multiple else (tag,):  # they are due in their order
            if (due := self._due.pop(number, None)) is not None:
                _answer(due, "stored" if stored else QueueFull(f"the queue of {due.envelope.routing_key} is full"))

    def _returned(self, message_id: bytes) -> None:
        """Refuse the first message with this id on its route. Its confirmation comes next."""
        for due in self._due.values():
            envelope = due.envelope
            if due.answer.done() or envelope.message_id.encode() != message_id or _names(envelope) != self._unrouted:
                continue
            _answer(due, NotRoutable(f"no queue takes {envelope.routing_key} from {envelope.exchange}"))
            return

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._end(lambda envelope: _refusal(envelope, error) or "cut off")

    def cut_off(self) -> None:
        """End without the broker, which answers no more."""
        self._end(lambda envelope: "cut off")

    def _end(self, answer: Callable[[Envelope], Answer]) -> None:
        self.ended = True
        due, self._due = self._due, {}
        for each in due.values():
            _answer(each, answer(each.envelope))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._draining is not None and not self._draining.expired():
            self._draining.reschedule(self._loop.time())


def _names(envelope: Envelope) -> bytes:
    return encode.short_string(envelope.exchange) + encode.short_string(envelope.routing_key)


def _answer(due: _Due, answer: Answer) -> None:
    if not due.answer.done():  # its sender may have been cancelled
        due.answer.set_result(answer)


def _refusal(envelope: Envelope, error: BaseException | None) -> MessagingError | None:
    """Return the refusal of this message in the error that has closed the channel, or None.

    The error concerns the message only if it names its exchange, or its size.
    """
    exchange = envelope.exchange
    mine = f"'{exchange}'" in str(error)
    if isinstance(error, amqp.ChannelNotFoundEntity) and mine:
        return NotRoutable(f"there is no exchange {exchange}")
    if isinstance(error, amqp.ChannelAccessRefused) and mine:
        remedy = "Check that the exchange belongs to the tenant, and that the tenant is not suspended"
        return AccessRefused(f"the user has no permission to publish to {exchange}", remedy=remedy)
    limit, size = None if error is None else too_large(error), len(envelope.body)
    if limit is not None and size > limit:
        problem = f"the message is {size:,} bytes, the broker takes at most {limit:,}"
        return NotSerializable(problem, remedy="Store the data elsewhere and send its location")
    return None
