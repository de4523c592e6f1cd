from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.properties import (
    PASSED_ON,
    ExactProperties,
    copied,
    decode_envelope,
    encode_properties,
    message_id_of,
)
from kryonix.messaging.message import Envelope, Header, RouteHeaders

HEADERS: list[dict[str, Any]] = [
    {"a": 0.1, "b": 1e308, "c": -5e-324},
    {"n" * 255: {"m" * 200: 1}},
    {"list": [0.1, "é", None, True, [{"x": 2.5}]], "empty": {}, "none": []},
    {"int": 2**63 - 1, "small": -(2**63), "bytes": bytearray(b"\xff"), "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)},
]


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_headers_arrive_unchanged(headers: dict[str, Any]) -> None:
    frame = pamqp.frame.marshal(ContentHeader(body_size=1, properties=ExactProperties(headers=headers)), 1)
    _, _, arrived = pamqp.frame.unmarshal(frame)
    assert isinstance(arrived, ContentHeader)
    assert arrived.properties.headers == headers


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_a_copy_keeps_all_properties_but_the_user(headers: dict[str, Any]) -> None:
    sent = ExactProperties(headers=headers, message_id="m", expiration="60000", app_id="shop", delivery_mode=1)
    sent.user_id = "kryonix_acme"
    for _ in range(2):
        _, _, arrived = pamqp.frame.unmarshal(pamqp.frame.marshal(ContentHeader(properties=sent), 1))
        assert isinstance(arrived, ContentHeader)
        sent = copied(arrived.properties)
    assert (sent.headers, sent.message_id, sent.expiration, sent.app_id) == (headers, "m", "60000", "shop")
    assert (sent.delivery_mode, sent.priority, sent.user_id) == (1, None, None)
    assert copied(sent, delivery_mode=2).delivery_mode == 2


def test_the_other_properties_are_pamqps_own() -> None:
    given = ExactProperties(message_id="m", priority=5, delivery_mode=2, headers={"a": 1}, correlation_id="c")
    usual = ContentHeader(body_size=1, properties=given)
    _, _, arrived = pamqp.frame.unmarshal(pamqp.frame.marshal(usual, 1))
    assert isinstance(arrived, ContentHeader)
    own = arrived.properties
    assert (own.message_id, own.priority, own.correlation_id) == ("m", 5, "c")


def _sized(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack(">I", len(body)) + body


def _entry(name: str, value: bytes) -> bytes:
    return struct.pack(">B", len(name.encode())) + name.encode() + value


SCALARS = st.one_of(
    st.binary(max_size=40).map(lambda text: _sized(b"S", text)),
    st.binary(max_size=40).map(lambda octets: _sized(b"x", octets)),
    st.integers(0, 2**64 - 1).map(lambda time: b"T" + struct.pack(">Q", time)),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"l" + struct.pack(">q", number)),
    st.integers(0, 2**32 - 1).map(lambda number: b"i" + struct.pack(">I", number)),
    st.integers(0, 255).map(lambda number: b"B" + struct.pack(">B", number)),
    st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1)).map(lambda parts: b"D" + struct.pack(">BI", *parts)),
    st.floats(width=32, allow_nan=False).map(lambda number: b"f" + struct.pack(">f", number)),
    st.floats(allow_nan=False).map(lambda number: b"d" + struct.pack(">d", number)),
    st.integers(0, 255).map(lambda truth: b"t" + struct.pack(">B", truth)),
    st.just(b"V"),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda values: _sized(b"A", b"".join(values))),
        st.dictionaries(NAMES, inner, max_size=4).map(
            lambda table: _sized(b"F", b"".join(_entry(name, value) for name, value in table.items()))
        ),
    ),
)


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.one_of(st.none(), st.integers(0, 2**64 - 1)))
def test_foreign_properties_are_unreadable_or_round_trip(table: dict[str, bytes], timestamp: int | None) -> None:
    headers = _sized(b"", b"".join(_entry(name, value) for name, value in table.items()))
    flags = 1 << 13 | (0 if timestamp is None else 1 << 6)
    properties = struct.pack(">H", flags) + headers + (b"" if timestamp is None else struct.pack(">Q", timestamp))
    payload = struct.pack(">HHQ", 60, 0, 2) + properties
    try:
        _, _, frame = pamqp.frame.unmarshal(struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce")
    except (PAMQPException, RecursionError, ArithmeticError):
        return  # the wire replaces it by the reason
    assert isinstance(frame, ContentHeader)
    read = frame.properties
    copy = ExactProperties(milliseconds=True, headers=read.headers, timestamp=read.timestamp)
    written = pamqp.frame.marshal(ContentHeader(body_size=2, properties=copy), 1)
    _, _, again = pamqp.frame.unmarshal(written)
    assert isinstance(again, ContentHeader)
    assert (again.properties.headers, again.properties.timestamp) == (read.headers, read.timestamp)
    assert copy.frame_size == len(written)


def _decoded(properties: bytes) -> Envelope:
    envelope, size = decode_envelope(struct.pack(">HHQ", 60, 0, 2) + properties, "e", "k")
    assert size == 2
    return envelope


def _by_pamqp(properties: bytes) -> Envelope | None:
    """Return the message as pamqp reads it, or None if it can't."""
    found = ContentHeader()
    try:
        found.unmarshal(struct.pack(">HHQ", 60, 0, 2) + properties)
    except Exception:  # noqa: BLE001 - pamqp raises several
        return None
    read = found.properties
    expiration = read.expiration or ""
    return Envelope(
        "e",
        "k",
        b"",
        read.message_id or "",
        headers=dict(read.headers or {}),
        priority=read.priority or 0,
        expiration=int(expiration) if expiration.isdecimal() else None,
        received=True,
        **{name: getattr(read, name) for name in PASSED_ON},
    )


USUAL = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.sampled_from(["application/json", "", "text/plain; charset=latin-1"]),
        "content_encoding": st.sampled_from(["zstd", "gzip"]),
        "headers": st.dictionaries(
            NAMES.filter(bool),
            st.one_of(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
                st.booleans(),
                st.integers(-(2**63), 2**63 - 1),
                st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),
                st.floats(allow_nan=False),
                st.lists(st.integers(0, 5), max_size=2),
            ),
            max_size=5,
        ),
        "priority": st.integers(0, 10),
        "correlation_id": st.just("c"),
        "reply_to": st.just("r"),
        "expiration": st.sampled_from(["60000", "soon"]),
        "timestamp": st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),
        "message_type": st.just("t"),
        "app_id": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        "message_id": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    },
)


@given(USUAL)
def test_a_message_is_read_as_pamqp_reads_it(properties: dict[str, Any]) -> None:
    written = ExactProperties(delivery_mode=2, **properties).marshal()
    assert _decoded(written) == _by_pamqp(written)


@given(USUAL, st.integers(0, 60), st.integers(0, 255))
def test_a_damaged_message_is_read_as_pamqp_reads_it(properties: dict[str, Any], at: int, byte: int) -> None:
    whole = ExactProperties(delivery_mode=2, **properties).marshal()
    for damaged in (whole[: 2 + at], whole[:at] + bytes([byte]) + whole[at + 1 :]):
        if len(damaged) < 2:
            continue
        read, expected = _decoded(damaged), _by_pamqp(damaged)
        if expected is None:
            assert list(read.headers) == [Header.UNREADABLE]
        else:
            assert read == expected


@given(USUAL, st.booleans())
def test_a_message_is_written_as_its_exact_properties(properties: dict[str, Any], received: bool) -> None:
    given = {name: value for name, value in properties.items() if name != "expiration"}
    envelope = Envelope(
        **{"exchange": "e", "routing_key": "k", "body": b"", "message_id": "m", "received": received, **given}
    )
    envelope.expiration = 60_000 if "expiration" in properties else None
    expiration = {"expiration": "60000"} if "expiration" in properties else {}
    defaults = {"message_id": "m", "priority": 0, "headers": {}, "content_type": "application/json"}
    exact = ExactProperties(milliseconds=received, delivery_mode=2, **{**defaults, **given, **expiration})
    assert encode_properties(envelope) == exact.marshal()
    assert message_id_of(struct.pack(">HHQ", 60, 0, 0) + exact.marshal()).decode() == envelope.message_id


def test_headers_of_a_route_are_encoded_once_and_the_same() -> None:
    headers = RouteHeaders({"cliente-id": "acme", "mobile-optimized": False})
    envelope = Envelope("e", "k", b"", "m", headers=headers, timestamp=datetime.now(UTC))
    first = encode_properties(envelope)
    assert headers.encoded
    envelope.headers = dict(headers)
    assert encode_properties(envelope) == first


def test_a_time_is_written_in_whole_seconds_unless_read_with_a_fraction() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    for exact, arrives in ((False, moment.replace(microsecond=0)), (True, moment)):
        written = ExactProperties(milliseconds=exact, headers={"at": moment}, timestamp=moment)
        _, _, read = pamqp.frame.unmarshal(pamqp.frame.marshal(ContentHeader(body_size=0, properties=written), 1))
        assert isinstance(read, ContentHeader)
        assert (read.properties.headers, read.properties.timestamp) == ({"at": arrives}, arrives)
