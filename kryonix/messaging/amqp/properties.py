"""The properties of messages in AMQP's binary form, exact and quick.

pamqp's writer halves floats, cuts names after 128 bytes, and refuses text that is not UTF-8. For the properties that
nearly all messages have there is a short way here, which takes a fraction of pamqp's time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from pamqp import encode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.frames import unreadable
from kryonix.messaging.message import Envelope, RouteHeaders

_FRAME_OVERHEAD: Final = 20
"""Bytes of a content header's frame besides the properties: the frame's own 8, class, weight and body size."""
_LAST_SECOND: Final = 2**32 - 1
"""A larger timestamp counts as milliseconds, in pamqp too."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

PASSED_ON: Final = (
    "content_type",
    "content_encoding",
    "timestamp",
    "app_id",
    "correlation_id",
    "reply_to",
    "message_type",
)
"""Properties with the same value in an Envelope and on the wire."""


class ExactProperties(Basic.Properties):
    """Properties written as they were read, as far as Python can hold them."""

    def __init__(self, *, milliseconds: bool = False, **properties: Any) -> None:
        """Set `milliseconds` for a message read from a broker, to keep the fraction of its time."""
        super().__init__(**properties)
        self._milliseconds = milliseconds
        self._written: tuple[str | None, bytes] | None = None

    @property
    def frame_size(self) -> int:
        """The size of the properties' frame in bytes. Raises any error for values without a binary form."""
        return _FRAME_OVERHEAD + len(self.marshal())

    def marshal(self) -> bytes:
        """Return the bytes, encoded once: aiormq may still give the message an id."""
        if self._written is None or self._written[0] != self.message_id:
            self._written = (self.message_id, super().marshal())
        return self._written[1]

    def encode_property(self, name: str, value: Any) -> bytes:
        if name == "headers":
            return self.table(value)
        return self._time(value) if isinstance(value, datetime) else super().encode_property(name, value)

    def table(self, table: Mapping[str, Any]) -> bytes:
        body = b"".join([encode.short_string(name) + self._value(value) for name, value in table.items()])
        return struct.pack(">I", len(body)) + body

    def _value(self, value: Any) -> bytes:
        match value:
            case str():
                return b"S" + encode.long_string(value)
            case bytes():
                # pamqp reads text that is not UTF-8 as bytes, and octets as a bytearray.
                return b"S" + struct.pack(">I", len(value)) + value
            case float():
                return b"d" + struct.pack(">d", value)
            case dict():
                return b"F" + self.table(value)
            case list():
                body = b"".join([self._value(each) for each in value])
                return b"A" + struct.pack(">I", len(body)) + body
            case datetime():
                return b"T" + self._time(value)
        return encode.encode_table_value(value)

    def _time(self, value: datetime) -> bytes:
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
        seconds, rest = divmod((since + _MILLISECOND / 2) // _MILLISECOND, 1000)
        if seconds > _LAST_SECOND or (rest and self._milliseconds):
            return struct.pack(">Q", seconds * 1000 + rest)
        return struct.pack(">Q", since // timedelta(seconds=1))


def copied(properties: Basic.Properties, **changed: Any) -> ExactProperties:
    """Return the properties of a copy, without user_id: the broker accepts only the publisher's own name there."""
    names = (*PASSED_ON, "headers", "delivery_mode", "priority", "expiration", "message_id")
    return ExactProperties(milliseconds=True, **{name: getattr(properties, name) for name in names} | changed)


_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _PRIORITY = 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11
_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID, _TIMESTAMP = 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 6
_MESSAGE_TYPE, _USER_ID, _APP_ID = 1 << 5, 1 << 4, 1 << 3
_FLAGS: Final = struct.Struct(">H")
_SIZE_AND_FLAGS: Final = struct.Struct(">4xQH")
_TIME: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")
_short = lru_cache(maxsize=1_000)(encode.short_string)
_exact: Final = ExactProperties()


def encode_properties(envelope: Envelope) -> bytes:
    """Return the properties of a message to publish. Raises any error for values without a binary form."""
    sent = envelope.timestamp
    if envelope.received or sent is None or sent.tzinfo is not UTC or envelope.correlation_id is not None:
        return _encode_any(envelope)
    if envelope.reply_to is not None or envelope.message_type is not None:
        return _encode_any(envelope)
    headers = envelope.headers
    if type(headers) is not RouteHeaders:
        table = _exact.table(headers)
    elif (table := headers.encoded) == b"":
        table = headers.encoded = _exact.table(headers)
    flags = _HEADERS | _DELIVERY_MODE | _PRIORITY | _MESSAGE_ID | _TIMESTAMP
    parts = [b"", table, b"\x02", encode.octet(envelope.priority)]
    if envelope.content_encoding:
        flags |= _CONTENT_ENCODING
        parts.insert(1, _short(envelope.content_encoding))
    if envelope.content_type:
        flags |= _CONTENT_TYPE
        parts.insert(1, _short(envelope.content_type))
    if envelope.expiration is not None:
        flags |= _EXPIRATION
        parts.append(encode.short_string(str(envelope.expiration)))
    parts += (encode.short_string(envelope.message_id), _TIME.pack(int(sent.timestamp())))
    if envelope.app_id:
        flags |= _APP_ID
        parts.append(_short(envelope.app_id))
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)


def _encode_any(envelope: Envelope) -> bytes:
    return ExactProperties(
        milliseconds=envelope.received,
        headers=envelope.headers,
        delivery_mode=2,
        priority=envelope.priority,
        expiration=None if envelope.expiration is None else str(envelope.expiration),
        message_id=envelope.message_id,
        **{name: getattr(envelope, name) for name in PASSED_ON},
    ).marshal()


class _Unusual(Exception):
    """A value that only pamqp reads."""


def decode_envelope(header: bytes, exchange: str, routing_key: str) -> tuple[Envelope, int]:
    """Return a message, without its body, and the size of the body in bytes, from the payload of a content header.

    A message with undecodable properties (a time in microseconds, an id that is not UTF-8, lists 1,000 deep) has only
    the header Header.UNREADABLE.
    """
    envelope = Envelope(exchange, routing_key, b"", "", content_type=None, received=True)
    size, flags = _SIZE_AND_FLAGS.unpack_from(header)
    try:
        _decode_usual(header, flags, envelope)
    except (_Unusual, ValueError, IndexError, struct.error):
        envelope = _decode_any(header, exchange, routing_key)
    return envelope, size


def _decode_usual(header: bytes, flags: int, envelope: Envelope) -> None:
    """Set what the properties say. Raises _Unusual, or another error for what can't be read so."""
    if flags & (_CORRELATION_ID | _REPLY_TO | _MESSAGE_TYPE | _USER_ID | 7):
        raise _Unusual
    at = _SIZE_AND_FLAGS.size
    if flags & _CONTENT_TYPE:
        envelope.content_type, at = _text(header, at)
    if flags & _CONTENT_ENCODING:
        envelope.content_encoding, at = _text(header, at)
    if flags & _HEADERS:
        end = at + 4 + _LENGTH.unpack_from(header, at)[0]
        if end > len(header):
            raise _Unusual
        envelope.headers = _table(header, at + 4, end)
        at = end
    if flags & _DELIVERY_MODE:
        at += 1
    if flags & _PRIORITY:
        envelope.priority = header[at]
        at += 1
    if flags & _EXPIRATION:
        text, at = _text(header, at)
        envelope.expiration = _milliseconds(text)
    if flags & _MESSAGE_ID:
        envelope.message_id, at = _text(header, at)
    if flags & _TIMESTAMP:
        envelope.timestamp = _moment(header, at)
        at += 8
    if flags & _APP_ID:
        envelope.app_id, at = _text(header, at)
    if at > len(header):
        raise _Unusual


def _text(header: bytes, at: int) -> tuple[str, int]:
    """Return a short string, and where it ends."""
    end = at + 1 + header[at]
    if end > len(header):
        raise _Unusual
    return header[at + 1 : end].decode(), end


def _moment(header: bytes, at: int) -> datetime:
    (seconds,) = _TIME.unpack_from(header, at)
    if seconds > _LAST_SECOND:
        raise _Unusual
    return datetime.fromtimestamp(seconds, UTC)


def _table(header: bytes, at: int, end: int) -> dict[str, Any]:
    """Return a table of text, booleans, whole numbers and times."""
    table: dict[str, Any] = {}
    while at < end:
        name, at = _text(header, at)
        kind = header[at]
        at += 1
        if kind == 0x53:  # S
            size = _LENGTH.unpack_from(header, at)[0]
            at += 4
            if at + size > end:
                raise _Unusual
            table[name] = header[at : at + size].decode()
            at += size
        elif kind == 0x74:  # t
            table[name] = bool(header[at])
            at += 1
        elif kind == 0x6C:  # l
            table[name] = int.from_bytes(header[at : at + 8], signed=True)
            at += 8
        elif kind == 0x49:  # I
            table[name] = int.from_bytes(header[at : at + 4], signed=True)
            at += 4
        elif kind == 0x54:  # T
            table[name] = _moment(header, at)
            at += 8
        else:
            raise _Unusual
    if at != end:
        raise _Unusual
    return table


def _decode_any(header: bytes, exchange: str, routing_key: str) -> Envelope:
    found = ContentHeader()
    try:
        found.unmarshal(header)
        properties = found.properties
    except Exception as error:  # noqa: BLE001 - deep nesting is a RecursionError, a far date is an OverflowError
        properties = unreadable(error)
    return Envelope(
        exchange,
        routing_key,
        b"",
        properties.message_id or "",
        headers=dict(properties.headers or {}),
        priority=properties.priority or 0,
        expiration=_milliseconds(properties.expiration or ""),
        received=True,
        **{name: getattr(properties, name) for name in PASSED_ON},
    )


def _milliseconds(expiration: str) -> int | None:
    """Return a time to live. RabbitMQ takes only digits; another broker's text must not leave a message unanswered."""
    return int(expiration) if expiration.isascii() and expiration.isdecimal() else None


def message_id_of(header: bytes) -> bytes:
    """Return the message id in a content header that this process wrote, whatever its headers hold."""
    _, flags = _SIZE_AND_FLAGS.unpack_from(header)
    at = _SIZE_AND_FLAGS.size
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        at += 1 + header[at] if flags & flag else 0
    at += 4 + _LENGTH.unpack_from(header, at)[0] if flags & _HEADERS else 0
    at += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO, _EXPIRATION):
        at += 1 + header[at] if flags & flag else 0
    return header[at + 1 : at + 1 + header[at]] if flags & _MESSAGE_ID else b""
