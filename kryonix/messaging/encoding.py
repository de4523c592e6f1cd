"""Encode data as JSON or raw bytes, compress it, and decompress it within a limit."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final, Literal

import zstandard

from kryonix.messaging.errors import NotSerializable

Compression = Literal["zstd", "gzip"]

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
MAX_BYTES: Final = 16 * 1024 * 1024
"""The largest message the broker accepts, and the largest result of decompression."""

_MIN_COMPRESSED: Final = 512
_MIN_SAVING: Final = 0.9
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW: Final = 1 << 27
"""Bytes; the window of `zstd --long`."""


class Undecodable(Exception):
    """A message with an unreadable body: another delivery cannot help."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant)


def encode(data: Any, message_id: str, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """Return data as bytes, and the content type. Raises NotSerializable."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        body, content_type = bytes(data), OCTETS
    else:
        try:
            body, content_type = _encoder.encode(data).encode(), JSON
        except Exception as error:  # the caller's own containers may raise anything
            problem = f"{type(data).__name__} is not serialisable as JSON: {error or type(error).__name__}"
            remedy = "Send text, numbers, booleans, None, lists and dicts of them, or bytes"
            raise NotSerializable(problem, message_id=message_id, remedy=remedy) from error
    if len(body) > max_bytes:
        problem = f"the data is {len(body):,} bytes, the broker takes at most {max_bytes:,}"
        raise NotSerializable(problem, message_id=message_id, remedy="Store the data elsewhere and send its location")
    return body, content_type


def compress(body: bytes, how: Compression) -> tuple[bytes, str | None]:
    """Return the body and its content encoding: compressed if that saves at least a tenth, else unchanged."""
    if len(body) < _MIN_COMPRESSED:
        return body, None
    if how == "zstd":
        smaller = zstandard.ZstdCompressor(level=3).compress(body)
    else:
        smaller = zlib.compress(body, 6, _GZIP_WINDOW)
    return (smaller, how) if len(smaller) < len(body) * _MIN_SAVING else (body, None)


def inflate(body: bytes, content_encoding: str | None, max_bytes: int = MAX_BYTES) -> bytes:
    """Decompress a body, holding at most `max_bytes`. Raises Undecodable."""
    if content_encoding in (None, "", "identity"):
        return body
    try:
        if content_encoding == "zstd":
            inflated, complete = _inflate_zstd(body, max_bytes)
        elif content_encoding == "gzip":
            inflated, complete = _inflate_gzip(body, max_bytes)
        else:
            raise Undecodable(f"content-encoding {content_encoding[:40]!r} is neither zstd nor gzip")
    except (zlib.error, zstandard.ZstdError) as error:
        raise Undecodable(f"the body is not {content_encoding}: {error}") from error
    if len(inflated) > max_bytes:
        raise Undecodable(f"{len(body):,} bytes of {content_encoding} inflate to more than {max_bytes:,}")
    if not complete:
        raise Undecodable(f"the body ends in the middle of its {content_encoding}")
    return inflated


def _inflate_zstd(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Return the data, and True if the frame is complete.

    Read one byte more than allowed, to know. The window is limited too: a frame may ask for gigabytes. A frame without
    a content size is read once more, to learn whether it has ended.
    """
    inflater = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    with inflater.stream_reader(body, read_across_frames=True) as reader:
        inflated = reader.read(max_bytes + 1)
    size = zstandard.frame_content_size(body)
    if size >= 0 or len(inflated) > max_bytes:
        return inflated, size <= len(inflated)
    frame = inflater.decompressobj()
    frame.decompress(body)
    return inflated, frame.eof


def _inflate_gzip(body: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """Return the data of one member, and True if it is complete. Millions of empty members would be a bomb."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    inflated = inflater.decompress(body, max_bytes + 1)
    if inflater.unused_data:
        raise Undecodable("data follows the end of its gzip")
    return inflated, inflater.eof


def decode(body: bytes, content_type: str | None, content_encoding: str | None, max_bytes: int = MAX_BYTES) -> Any:
    """Return a body as data: bytes for octets, text for text, else JSON. Raises Undecodable."""
    body = inflate(body, content_encoding, max_bytes)
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    if kind == OCTETS:
        return body
    try:
        text = body.decode()
        return text if kind == "text/plain" else _decoder.decode(text)
    except UnicodeDecodeError as error:
        raise Undecodable(f"the body is not UTF-8: byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"the body is not JSON: {str(error)[:200]}") from error
