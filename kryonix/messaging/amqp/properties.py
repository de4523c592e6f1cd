"""A message's properties as bytes, with headers that arrive as they were given: pamqp halves floats and cuts names."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pamqp import encode
from pamqp.commands import Basic

__all__ = ["ExactProperties"]

_AROUND: Final = 20
"""Bytes of a content header's frame beside the properties: the frame's own 8, class, weight and body size."""
_LAST_SECOND: Final = 2**32 - 1
"""A larger timestamp is read as milliseconds, by pamqp too."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class ExactProperties(Basic.Properties):
    """Properties that are written as they were read, as far as Python can hold them.

    pamqp's own writer halves floats, cuts names after 128 bytes, and refuses text that is not UTF-8, all of which its
    reader hands out.
    """

    def __init__(self, *, milliseconds: bool = False, **properties: Any) -> None:
        """With `milliseconds`, a time that has a fraction of a second keeps it: it was read so."""
        super().__init__(**properties)
        self._milliseconds = milliseconds
        self._written: tuple[str | None, bytes] | None = None

    @property
    def frame_size(self) -> int:
        """The bytes of the one frame that properties travel in. Raises whatever can't be written."""
        return _AROUND + len(self.marshal())

    def marshal(self) -> bytes:
        """The bytes, made once: aiormq writes what was measured. It may still give the message an id."""
        if self._written is None or self._written[0] != self.message_id:
            self._written = (self.message_id, super().marshal())
        return self._written[1]

    def encode_property(self, name: str, value: Any) -> bytes:
        if name == "headers":
            return self._table(value)
        return self._time(value) if isinstance(value, datetime) else super().encode_property(name, value)

    def _table(self, table: Mapping[str, Any]) -> bytes:
        body = b"".join([encode.short_string(name) + self._value(value) for name, value in table.items()])
        return struct.pack(">I", len(body)) + body

    def _value(self, value: Any) -> bytes:
        match value:
            case str():
                return b"S" + encode.long_string(value)
            case bytes():
                # Text that is not UTF-8, as pamqp reads it. Its octets are a bytearray.
                return b"S" + struct.pack(">I", len(value)) + value
            case float():
                return b"d" + struct.pack(">d", value)
            case dict():
                return b"F" + self._table(value)
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
