from __future__ import annotations

import gzip
import random
import time
import tracemalloc
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kryonix.messaging import NotSerializable
from kryonix.messaging.encoding import JSON, OCTETS, Undecodable, compress, decode, encode, inflate

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=20,
)


@given(values)
def test_any_json_round_trips(value: Any) -> None:
    body, content_type = encode(value, "id")
    assert content_type == JSON
    assert decode(body, content_type, None) == value


@given(st.binary(max_size=5000), st.sampled_from(["zstd", "gzip"]))
def test_any_bytes_round_trip_compressed_or_not(body: bytes, how: Any) -> None:
    sent, content_type = encode(body, "id")
    assert content_type == OCTETS
    assert decode(*_with(compress(sent, how), content_type)) == body


def _with(compressed: tuple[bytes, str | None], content_type: str) -> tuple[bytes, str, str | None]:
    return compressed[0], content_type, compressed[1]


@pytest.mark.parametrize("how", ["zstd", "gzip"])
def test_only_data_that_shrinks_by_a_tenth_is_compressed(how: Any) -> None:
    noise = random.Random(1).randbytes(4000)
    assert compress(noise, how) == (noise, None)
    assert compress(b"a" * 100, how) == (b"a" * 100, None)
    smaller, encoding = compress(b"a" * 4000, how)
    assert encoding == how
    assert len(smaller) < 200


@pytest.mark.parametrize(
    ("bomb", "how"),
    [
        (zstandard.ZstdCompressor().compress(b"\0" * 50_000_000), "zstd"),
        (gzip.compress(b"\0" * 50_000_000, 1), "gzip"),
    ],
    ids=["zstd", "gzip"],
)
def test_a_compression_bomb_is_refused_without_being_inflated(bomb: bytes, how: str) -> None:
    tracemalloc.start()
    with pytest.raises(Undecodable, match="inflate to more than 1,000,000"):
        inflate(bomb, how, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_body_is_inflated_up_to_the_exact_limit() -> None:
    for how, compressor in (("zstd", zstandard.ZstdCompressor().compress), ("gzip", gzip.compress)):
        assert inflate(compressor(b"a" * 1000), how, 1000) == b"a" * 1000
        with pytest.raises(Undecodable):
            inflate(compressor(b"a" * 1001), how, 1000)


def test_a_zstd_frame_of_unknown_size_is_inflated() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    body = compressor.compress(b"a" * 1000) + compressor.flush()
    assert inflate(body, "zstd") == b"a" * 1000


def test_truncated_data_of_unknown_size_is_refused() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    body = compressor.compress(random.Random(1).randbytes(5000)) + compressor.flush()
    for cut in (3, 2500):
        with pytest.raises(Undecodable, match="in the middle"):
            inflate(body[:-cut], "zstd")


def test_no_part_of_a_body_is_silently_dropped() -> None:
    assert inflate(zstandard.compress(b"a") + zstandard.compress(b"bc"), "zstd") == b"abc"
    with pytest.raises(Undecodable, match="follows the end"):
        inflate(gzip.compress(b"a") + gzip.compress(b"bc"), "gzip")


def test_a_million_empty_members_take_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(Undecodable):
        inflate(gzip.compress(b"") * 200_000, "gzip")
    assert inflate(zstandard.compress(b"") * 500_000, "zstd") == b""
    assert time.monotonic() - began < 10  # looked at one after the other, the gzip ones took 36 s


@pytest.mark.parametrize("value", [float("inf"), {1}, object(), "\udc00", {(): 1}])
def test_data_beyond_json_is_refused_naming_the_message(value: Any) -> None:
    with pytest.raises(NotSerializable, match=r"^message id-1: .*serialisable"):
        encode(value, "id-1")


def test_circular_and_too_deep_data_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(NotSerializable):
            encode(value, "id")


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", JSON, "not JSON"),
        (b"Infinity", None, "not JSON"),
        (b"\xff", "application/json; charset=utf-8", "not UTF-8"),
        (b"\xff", "text/plain", "not UTF-8"),
    ],
)
def test_mislabelled_data_cannot_be_decoded(body: bytes, content_type: str | None, words: str) -> None:
    with pytest.raises(Undecodable, match=words):
        decode(body, content_type, None)


def test_text_is_text() -> None:
    assert decode("olá".encode(), "text/plain; charset=utf-8", None) == "olá"
