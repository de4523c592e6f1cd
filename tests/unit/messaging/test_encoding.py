from __future__ import annotations

import contextlib
import enum
import gzip
import random
import time
import tracemalloc
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

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
    two = zstandard.compress(b"a") + zstandard.compress(random.Random(1).randbytes(300_000))
    assert len(inflate(two, "zstd")) == 300_001
    for cut in (1, 150_000, 300_005, 300_010):
        with pytest.raises(Undecodable, match="zstd"):
            inflate(two[:-cut], "zstd")
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    assert inflate(skipped + zstandard.compress(b"a") + skipped, "zstd") == b"a"
    with pytest.raises(Undecodable, match="zstd"):
        inflate(zstandard.compress(b"a") + skipped[:-1], "zstd")
    with pytest.raises(Undecodable, match="follows the end"):
        inflate(gzip.compress(b"a") + gzip.compress(b"bc"), "gzip")


def test_a_million_empty_members_take_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(Undecodable):
        inflate(gzip.compress(b"") * 200_000, "gzip")
    with pytest.raises(Undecodable, match="more than 10,000 frames"):
        inflate(zstandard.compress(b"") * 500_000, "zstd")
    assert inflate(zstandard.compress(b"") * 10_000, "zstd") == b""
    assert time.monotonic() - began < 10  # looked at one after the other, the gzip ones took 36 s


@pytest.mark.parametrize("value", [float("inf"), {1}, object(), "\udc00", {(): 1}])
def test_data_beyond_json_is_refused_naming_the_message(value: Any) -> None:
    with pytest.raises(NotSerializable, match=r"^message id-1: .*serialisable"):
        encode(value, "id-1")


class Colour(enum.Enum):
    RED = "red"


class Lead(BaseModel):
    created_at: datetime
    value: Decimal = Field(alias="valor")
    owner: Any = None


@dataclass(slots=True)
class Order:
    id: UUID
    lead: Any


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LEAD = Lead(created_at=NOON, valor=Decimal("1.10"))
ID = UUID(int=7)


def test_models_dataclasses_and_plain_values_can_be_sent() -> None:
    data = [Order(ID, LEAD), NOON, NOON.date(), NOON.time(), Decimal("1.10"), Colour.RED]
    received = decode(encode(data, "id")[0], JSON, None)
    lead = {"created_at": "2026-01-02T12:00:00Z", "valor": "1.10", "owner": None}
    plain = ["2026-01-02T12:00:00+00:00", "2026-01-02", "12:00:00", "1.10", "red"]
    assert received == [{"id": str(ID), "lead": lead}, *plain]
    assert Lead.model_validate(received[0]["lead"]) == LEAD


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("broken")


@pytest.mark.parametrize(
    ("data", "culprit"),
    [
        ({"lead": {"name": "Ana", "tags": {1}}}, r"lead\.tags \(set\)"),
        ({"leads": [1, {"first name": object()}]}, r"leads\[1\]\['first name'\] \(object\)"),
        ([float("nan")], r"\[0\] \(float\)"),
        ({"a": {(): 1}}, r"a \(dict\)"),
        ({"a": "\udc00"}, r"a \(str\)"),
        ({"a": b"x"}, r"a \(bytes\)"),
        ({"order": Order(ID, {1})}, r"order\.lead \(set\)"),
        (Lead(created_at=NOON, valor=1, owner=object()), r"owner \(object\)"),
        ({"a": Broken(b=1)}, r"a \(Broken\)"),
        ({"k" * 999: {1}}, r"\['k{12}\.\.\.k{13}'\] \(set\)"),
        ({"type": Order}, r"type \(type\)"),
    ],
    ids=["dict", "list", "nan", "key", "surrogate", "bytes", "dataclass", "model", "broken", "long key", "class"],
)
def test_the_refusal_of_data_names_the_path_to_the_value(data: Any, culprit: str) -> None:
    with pytest.raises(NotSerializable, match=rf"^message id-1: {culprit} is not serialisable"):
        encode(data, "id-1")


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


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "TEXT/PLAIN", "text/csv"])
def test_text_is_text(content_type: str) -> None:
    assert decode("olá".encode(), content_type, None) == "olá"


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf8", "binary", "identity", "8bit", "", " UTF-8 "])
@pytest.mark.parametrize("content_type", [JSON, None, "application/vnd.api+json", "Application/JSON ;v=1", "text/json"])
def test_json_of_other_clients_is_decoded(encoding: str, content_type: str | None) -> None:
    assert decode('{"a":"á"}'.encode(), content_type, encoding) == {"a": "á"}


@pytest.mark.parametrize("charset", ["iso-8859-1", "ISO_8859_1", "Windows-1252", "utf-16", "utf-16le", "utf-8-sig"])
def test_a_charset_is_followed_wherever_it_is_stated(charset: str) -> None:
    body = '"olá"'.encode(charset)
    assert decode(body, JSON, charset) == "olá"
    assert decode(body, f'application/json; charset="{charset}"', None) == "olá"
    assert decode(body, f"text/plain;format=flowed;CharSet={charset}", None) == '"olá"'
    assert decode(body, f"text/plain; charset={charset}", "binary") == '"olá"'


def test_the_content_encoding_precedes_the_content_type() -> None:
    assert decode("á".encode(), "text/plain; charset=iso-8859-1", "utf-8") == "á"  # as kombu and Spring read it


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_not_data(encoding: str) -> None:
    body = '"olá"'.encode(encoding)
    assert decode(body, JSON, None) == "olá"
    assert decode(body, "text/plain", encoding) == '"olá"'
    assert decode("olá".encode("utf-8-sig"), "text/plain", None) == "olá"
    assert decode("\ufeffolá".encode("utf-16le"), "text/plain", "utf-16le") == "olá"


@pytest.mark.parametrize("number", ["1e999", "-1e999", '{"a":[1.5,2e400]}', "NaN", "-Infinity"])
def test_a_number_that_cannot_be_sent_on_is_refused(number: str) -> None:
    with pytest.raises(Undecodable, match="not JSON"):
        decode(number.encode(), JSON, None)
    assert decode(b"[1e308,1e-999]", JSON, None) == [1e308, 0.0]


def _raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("encoding", "compressor"),
    [
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("Deflate", _raw_deflate),
        ("zstd", zstandard.compress),
        ("gzip, UTF-8", gzip.compress),
        ("gzip:UTF-8", gzip.compress),
        ("utf-8,gzip", gzip.compress),
        ("application/x-gzip,utf-8", zlib.compress),
    ],
)
def test_other_names_of_a_compression_are_known(encoding: str, compressor: Any) -> None:
    assert decode(compressor(b'{"a":1}'), JSON, encoding) == {"a": 1}
    assert decode(compressor(b"\xff"), OCTETS, encoding) == b"\xff"
    with pytest.raises(Undecodable, match="inflate to more than"):
        decode(compressor(b"0" * 50_000), JSON, encoding, 1_000)
    with pytest.raises(Undecodable):
        decode(compressor(b"0" * 50_000)[:-9], JSON, encoding)


@pytest.mark.parametrize(
    "encoding", ["br", "aes256", "base64", "hex", "zlib", "rot13", "utf-99", "gzip, gzip", "\0", "ü"]
)
def test_an_unknown_encoding_cannot_be_decoded(encoding: str) -> None:
    with pytest.raises(Undecodable, match="is not one of zstd, gzip, deflate, charset"):
        decode(b'"a"', JSON, encoding)


@pytest.mark.parametrize("charset", ["utf-99", "hex", "punycode", "idna", "unicode_escape"])
def test_an_unknown_charset_cannot_be_decoded(charset: str) -> None:
    began = time.monotonic()
    with pytest.raises(Undecodable, match=f"the charset '{charset}' is unknown"):
        decode(b"a" * 2_000_000, f"text/plain; charset={charset}", None)
    assert time.monotonic() - began < 5  # by `punycode` it took 400 s


@given(st.binary(max_size=50), st.none() | st.text(max_size=50), st.none() | st.text(max_size=30))
def test_any_message_is_decoded_or_refused(body: bytes, parameter: str | None, encoding: str | None) -> None:
    for content_type in (parameter, f"text/plain; charset={parameter}"):
        with contextlib.suppress(Undecodable):
            decode(body, content_type, encoding)
