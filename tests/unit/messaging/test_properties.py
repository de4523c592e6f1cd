from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.properties import ExactProperties

HEADERS: list[dict[str, Any]] = [
    {"a": 0.1, "b": 1e308, "c": -5e-324},
    {"n" * 255: {"m" * 200: 1}},
    {"list": [0.1, "é", None, True, [{"x": 2.5}]], "empty": {}, "none": []},
    {"int": 2**63 - 1, "small": -(2**63), "bytes": bytearray(b"\xff"), "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)},
]


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_headers_arrive_as_they_were_given(headers: dict[str, Any]) -> None:
    frame = pamqp.frame.marshal(ContentHeader(body_size=1, properties=ExactProperties(headers=headers)), 1)
    _, _, arrived = pamqp.frame.unmarshal(frame)
    assert isinstance(arrived, ContentHeader)
    assert arrived.properties.headers == headers


def test_the_other_properties_are_pamqps_own() -> None:
    given = ExactProperties(message_id="m", priority=5, delivery_mode=2, headers={"a": 1}, correlation_id="c")
    usual = ContentHeader(body_size=1, properties=given)
    _, _, arrived = pamqp.frame.unmarshal(pamqp.frame.marshal(usual, 1))
    assert isinstance(arrived, ContentHeader)
    own = arrived.properties
    assert (own.message_id, own.priority, own.correlation_id) == ("m", 5, "c")
