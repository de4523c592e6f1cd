"""Encode data as JSON or raw bytes, and decode it, other applications' charsets and compression too, within a limit."""

from __future__ import annotations

import codecs
import json
import math
import re
import reprlib
import zlib
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from email.message import Message as Header
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

import zstandard
from pydantic import BaseModel, TypeAdapter, ValidationError

from kryonix.messaging.errors import NotSerializable

Compression = Literal["zstd", "gzip"]

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
_BINARY: Final = frozenset({OCTETS, "application/data"})
"""The second is kombu's."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""The largest message the broker accepts, and the largest result of decompression."""

_SERIALIZABLE: Final = (
    "Send text, numbers, booleans, None, datetimes, UUIDs, Decimals, enums, dataclasses, Pydantic models, "
    "lists and dicts of them; or bytes"
)
_MAX_PATH: Final = 20
"""Steps of the path to a value that cannot be sent, or does not fit a model."""
_MAX_KEY: Final = 40
"""Characters of a key in such a path; a longer one is cut."""
_MAX_PROBLEMS: Final = 3
"""Reasons why data does not fit a model that are named."""
MIN_COMPRESSED: Final = 512
"""Bytes. A smaller body is not compressed."""
_MIN_SAVING: Final = 0.9
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW: Final = 1 << 27
"""Bytes; the window of `zstd --long`."""
_MAX_FRAMES: Final = 10_000
"""Frames of zstd in a body. Each takes a microsecond to look at, and millions fit in."""
_LEAST_FRAME: Final = 9
"""Bytes of the smallest frame of zstd."""
_UNCHANGED: Final = frozenset({"", "identity", "binary", "7bit", "8bit"})
"""Content encodings that neither compress nor name a charset."""
_COMPRESSIONS: Final = {
    "zstd": "zstd",
    "application/zstd": "zstd",
    "gzip": "gzip",
    "x-gzip": "gzip",
    "deflate": "deflate",
    "application/x-gzip": "deflate",  # kombu's name for zlib's format
}
_MANY_DIGITS: Final = 309
"""Of the smallest whole number that is too large for a float."""
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Text codecs of Python that are no charsets. Two megabytes of `punycode` would stop the event loop for minutes."""


class Undecodable(Exception):
    """A message with an unreadable body: another delivery cannot help."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:40]} exceeds the largest number")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _parse(text: str) -> Any:
    """Return JSON as data. Raises ValueError, also for a number too large for a float, with or without a point.

    A function for whole numbers makes decoding twice as slow: it is used only where so many digits follow each other.
    """
    if len(text) >= _MANY_DIGITS and b"0" * _MANY_DIGITS in text.encode(errors="replace").translate(_DIGITS_AS_ZERO):
        return _careful_decoder.decode(text)
    return _decoder.decode(text)


def _plain(value: Any) -> Any:
    """Return the JSON form of a value that JSON does not have. Raises TypeError."""
    match value:
        case BaseModel():
            return value.model_dump(mode="json", by_alias=True)
        case date() | time():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case Enum():
            return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    raise TypeError


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
_careful_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)


def encode(data: Any, message_id: str, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """Return data as bytes, and the content type. Raises NotSerializable."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        body, content_type = bytes(data), OCTETS
    else:
        try:
            body, content_type = _encoder.encode(data).encode(), JSON
        except Exception as error:  # the caller's own containers may raise anything
            problem = f"{_culprit(data)} is not serialisable as JSON{f': {error}' if str(error) else ''}"
            raise NotSerializable(problem, message_id=message_id, remedy=_SERIALIZABLE) from error
    if len(body) > max_bytes:
        problem = f"the data is {len(body):,} bytes, the broker takes at most {max_bytes:,}"
        raise NotSerializable(problem, message_id=message_id, remedy="Store the data elsewhere and send its location")
    return body, content_type


def _culprit(data: Any) -> str:
    """Return path and type of the innermost value that cannot be encoded, such as `lead.tags (set)`."""
    path, outer = "", [data]
    with suppress(Exception):  # the caller's own containers may raise anything: the path so far
        while len(outer) <= _MAX_PATH:
            found = ((step, child) for step, child in _children(data) if not _is_encodable(child))
            step, data = next((step, child) for step, child in found if not any(child is each for each in outer))
            path += step
            outer.append(data)
    return f"{path.lstrip('.') or 'the data'} ({type(data).__name__})"


def _children(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield a container's values, with the step to each."""
    if isinstance(data, BaseModel):
        data = vars(data)
    elif is_dataclass(data):
        data = _plain(data)
    if isinstance(data, dict):
        yield from ((_step(key), value) for key, value in data.items())
    elif isinstance(data, (list, tuple)):
        yield from ((_step(number), value) for number, value in enumerate(data))


def _is_encodable(value: Any) -> bool:
    try:
        return bool(_encoder.encode(value).encode())
    except Exception:  # noqa: BLE001 - as above
        return False


def compress(body: bytes, how: Compression) -> tuple[bytes, str | None]:
    """Return the body and its content encoding: compressed if that saves at least a tenth, else unchanged."""
    if len(body) < MIN_COMPRESSED:
        return body, None
    if how == "zstd":
        smaller = zstandard.ZstdCompressor(level=3).compress(body)
    else:
        smaller = zlib.compress(body, 6, _GZIP_WINDOW)
    return (smaller, how) if len(smaller) < len(body) * _MIN_SAVING else (body, None)


def inflate(body: bytes, how: str | None, max_bytes: int = MAX_BYTES) -> bytes:
    """Decompress a body of zstd, gzip or deflate, holding at most `max_bytes`. Raises Undecodable."""
    if how is None:
        return body
    try:
        inflated, complete = (_inflate_zstd if how == "zstd" else _inflate_zlib)(body, max_bytes)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Undecodable(f"the body is not {how}: {error}") from error
    if len(inflated) > max_bytes:
        raise Undecodable(f"{len(body):,} bytes of {how} inflate to more than {max_bytes:,}")
    if not complete:
        raise Undecodable(f"the body ends in the middle of its {how}")
    return inflated


def _read_encoding(content_encoding: str) -> tuple[str | None, str | None]:
    """Return the compression and the charset, as of Spring's `gzip, UTF-8` (`gzip:UTF-8` before 2.3)."""
    how = charset = None
    for part in re.split("[,:]", content_encoding):
        name = part.strip().lower()
        if name in _COMPRESSIONS and how is None:
            how = _COMPRESSIONS[name]
        elif name not in _UNCHANGED:
            charset = _codec(name)
            if charset is None:
                raise Undecodable(
                    f"content-encoding {content_encoding[:40]!r} is not one of zstd, gzip, deflate, charset"
                )
    return how, charset


def _codec(charset: str) -> str | None:
    """Return Python's name of a charset, or None."""
    try:
        name = codecs.lookup(charset).name
        "a".encode(name)  # refuses codecs of bytes, such as hex
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSETS else name


def _inflate_zstd(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Return the data of all frames, and True if the last one is complete.

    Read one byte more than allowed, to know. The window is limited too: a frame may ask for gigabytes.
    """
    inflater = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    with inflater.stream_reader(body, read_across_frames=True) as reader:
        inflated = reader.read(max_bytes + 1)
    return inflated, len(inflated) > max_bytes or _ends_with_a_frame(body)


def _ends_with_a_frame(body: bytes) -> bool:
    """Return True if a body of zstd ends where a frame does: its reader says nothing of one that is cut off."""
    at = 0
    for _ in range(_MAX_FRAMES):
        at = _end_of_frame(body, at)
        if at >= len(body):
            return at == len(body)
    raise Undecodable(f"the body has more than {_MAX_FRAMES:,} frames of zstd")


def _end_of_frame(body: bytes, at: int) -> int:
    """Return where a frame of zstd ends, beyond the body for one that is cut off (RFC 8878, 3.1)."""
    magic = body[at : at + 4]
    if magic[1:] == b"\x2a\x4d\x18":  # a frame to be skipped
        return at + 8 + int.from_bytes(body[at + 4 : at + 8], "little")
    if len(body) - at < _LEAST_FRAME:
        return len(body) + 1
    has_checksum = body[at + 4] & 4
    at += zstandard.frame_header_size(body[at : at + 18])
    last = False
    while not last and at < len(body):
        block = int.from_bytes(body[at : at + 3], "little")
        last, repeated, size = block & 1 == 1, block >> 1 & 3 == 1, block >> 3
        at += 3 + (1 if repeated else size)
    return at + has_checksum if last else len(body) + 1


def _inflate_zlib(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Return the data of one member, and True if it is complete. Millions of empty members would be a bomb.

    The first byte tells the formats apart: gzip's, zlib's, and DEFLATE without a header.
    """
    has_header = body != b"" and (body[0] == 0x1F or body[0] & 15 == zlib.DEFLATED)
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    inflated = inflater.decompress(body, max_bytes + 1)
    if inflater.unused_data:
        raise Undecodable("data follows the end of the compressed body")
    return inflated, inflater.eof


def stated_encoding(headers: Mapping[str, Any], content_encoding: str | None) -> str | None:
    """Return the encodings of a message's body. kombu names its compression in a header."""
    compression = headers.get("compression")
    if isinstance(compression, str) and compression.startswith("application/"):
        return f"{compression},{content_encoding or ''}"
    return content_encoding


def decode(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    max_bytes: int = MAX_BYTES,
    adapter: TypeAdapter[Any] | None = None,
) -> Any:
    """Return a body as data: bytes for octets, text for text, else JSON; or as the adapter's type. Raises Undecodable.

    JSON is validated as such: a strict model takes a time or a UUID from text there, but not from a Python string.
    """
    how, charset = _read_encoding(content_encoding) if content_encoding else (None, None)
    body = inflate(body, how, max_bytes)
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    if kind in _BINARY:
        return body if adapter is None else _fitted(adapter, adapter.validate_python, body)
    is_text = kind.startswith("text/") and not kind.endswith("json")
    charset = charset or _charset(content_type) or ("utf-8" if is_text else json.detect_encoding(body))
    # Other types are read as JSON: many clients set none, or a wrong one. The reason names it if that fails.
    stated = "" if is_text or kind.endswith("json") else f" (content-type {kind[:60]!r})"
    try:
        text = body.decode(charset).removeprefix("\ufeff")
        data = text if is_text else _parse(text)
    except UnicodeError as error:
        place = f": byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise Undecodable(f"the body is not {charset.removesuffix('-sig').upper()}{place}{stated}") from error
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"the body is not JSON: {str(error)[:200]}{stated}") from error
    if adapter is None:
        return data
    return _fitted(adapter, adapter.validate_python if is_text else adapter.validate_json, text)


def _fitted(adapter: TypeAdapter[Any], validate: Callable[[Any], Any], given: bytes | str) -> Any:
    name = adapter.validator.title
    try:
        return validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [f"{_path(each['loc'])}: {each['msg'][:200]}" for each in found[:_MAX_PROBLEMS]]
        problems += [f"{len(found) - _MAX_PROBLEMS} more"] * (len(found) > _MAX_PROBLEMS)
        raise Undecodable(f"the data is not a valid {name}: {'; '.join(problems)}") from error
    except (Exception, CancelledError) as error:  # a validator of the model's author may raise anything
        why = type(error).__name__
        with suppress(Exception):  # its text is their code too
            why = f"{why}: {str(error)[:200]}".removesuffix(": ")
        raise Undecodable(f"{name} cannot be validated: {why}") from error


def _path(steps: tuple[int | str, ...]) -> str:
    return "".join(map(_step, steps[:_MAX_PATH])).lstrip(".") or "the data"


def _step(key: Any) -> str:
    """Return one step of a path: `.name`, `[0]` or `['other text']`."""
    named = isinstance(key, str) and key.isidentifier() and len(key) <= _MAX_KEY
    return f".{key}" if named else f"[{reprlib.repr(key)}]"


def _charset(content_type: str | None) -> str | None:
    """Return the codec of a content type's parameter `charset`, if any. Raises Undecodable for an unknown one."""
    if content_type is None or ";" not in content_type:
        return None
    header = Header()
    header["content-type"] = content_type
    stated = header.get_content_charset("")
    if stated in _UNCHANGED:
        return None
    if (codec := _codec(stated)) is None:
        raise Undecodable(f"the charset {stated[:40]!r} is unknown")
    return codec
