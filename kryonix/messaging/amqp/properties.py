"""A message's properties as bytes, with headers that arrive as they were given: pamqp halves floats and cuts names."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from pamqp import encode
from pamqp.commands import Basic

__all__ = ["ExactProperties"]


class ExactProperties(Basic.Properties):
    """Properties whose headers keep a float's 64 bits and a name's 255 bytes; pamqp's keep 32 and 128."""

    def encode_property(self, name: str, value: Any) -> bytes:
        return _table(value) if name == "headers" else super().encode_property(name, value)


def _table(table: Mapping[str, Any]) -> bytes:
    body = b"".join([encode.short_string(name) + _value(value) for name, value in table.items()])
    return struct.pack(">I", len(body)) + body


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return b"S" + encode.long_string(value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, dict):
        return b"F" + _table(value)
    if isinstance(value, list):
        body = b"".join([_value(each) for each in value])
        return b"A" + struct.pack(">I", len(body)) + body
    return encode.encode_table_value(value)
