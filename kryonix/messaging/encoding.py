"""Between a message's data and its bytes: JSON, raw bytes, and compression that is undone within a bound."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final, Literal

import zstandard

from kryonix.messaging.errors import NotSerializable

__all__ = ["JSON", "MAX_BYTES", "OCTETS", "Compression", "Undecodable", "compress", "decode", "encode", "inflate"]

Compression = Literal["zstd", "gzip"]

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
MAX_BYTES: Final = 16 * 1024 * 1024
"""The largest message the broker takes, and the largest that is inflated to."""

_WORTH_TRYING: Final = 512
_WORTH_SENDING: Final = 0.9
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW: Final = 1 << 27
"""Bytes, what `zstd --long` asks for at most."""


class Undecodable(Exception):
    """A message that will never be readable, however often it is delivered."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant)


def encode(data: Any, message_id: str, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """Data as bytes and their content type. Raises NotSerializable."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        body, content_type = bytes(data), OCTETS
    else:
        body, content_type = _json(data, message_id), JSON
    if len(body) > max_bytes:
        problem = f"the data is {len(body):,} bytes, the broker takes at most {max_bytes:,}"
        raise NotSerializable(problem, message_id=message_id, remedy="Store it elsewhere and send where it is")
    return body, content_type


def _json(data: Any, message_id: str) -> bytes:
    try:
        return _encoder.encode(data).encode()
    except Exception as error:  # the data is the caller's, and so is what its own containers raise
        raise NotSerializable(
            f"{type(data).__name__} is not serialisable as JSON: {error or type(error).__name__}",
            message_id=message_id,
            remedy="Send text, numbers, booleans, None, lists and dicts of them, or bytes",
        ) from error


def compress(body: bytes, how: Compression) -> tuple[bytes, str | None]:
    """The body and its content encoding: compressed where that saves a tenth at least, else as it was."""
    if len(body) < _WORTH_TRYING:
        return body, None
    smaller = zstandard.ZstdCompressor(level=3).compress(body) if how == "zstd" else _gzip(body)
    return (smaller, how) if len(smaller) < len(body) * _WORTH_SENDING else (body, None)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(body) + compressor.flush()


def inflate(body: bytes, content_encoding: str | None, max_bytes: int = MAX_BYTES) -> bytes:
    """Undo a content encoding without ever holding more than `max_bytes`. Raises Undecodable."""
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
    """One byte more than allowed is enough to know. The window is bounded too: a frame may ask for gigabytes.

    A frame need not say how long it is. Then, once its size is known to be allowed, it is asked whether it has ended.
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
    """One member: a body of millions of empty ones would take the time of a bomb."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    inflated = inflater.decompress(body, max_bytes + 1)
    if inflater.unused_data:
        raise Undecodable("something follows the end of its gzip")
    return inflated, inflater.eof


def decode(body: bytes, content_type: str | None, content_encoding: str | None, max_bytes: int = MAX_BYTES) -> Any:
    """A body as data: bytes for octets, text for text, else JSON. Raises Undecodable."""
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
