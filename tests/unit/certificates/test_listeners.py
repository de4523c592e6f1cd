"""The listeners with TLS among a platform's outputs."""

from __future__ import annotations

import pytest

from kryonix.certificates.listeners import Listener, listeners_of


@pytest.mark.parametrize(
    "value",
    ["https://[::1", "https://", "messaging.example.com", 5671, None, "amqp://a/b", "postgresql://a/b", {"a": "b"}],
)
def test_an_output_without_tls_is_no_listener(value: object) -> None:
    assert listeners_of({"any": value}) == {}


def test_a_listener_has_its_schemes_port_by_default() -> None:
    outputs = {"page": "https://example.com/page", "broker": "amqps://user:secret@[::1]/vhost"}
    assert listeners_of(outputs) == {
        "example.com:443": Listener(host="example.com", port=443),
        "[::1]:5671": Listener(host="::1", port=5671),
    }


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_postgresql_starts_tls_in_its_own_way(mode: str) -> None:
    (found,) = listeners_of({"registry_dsn": f"postgresql://a:b@db:6432/kryonix?sslmode={mode}&x=y"}).values()
    assert found == Listener(host="db", port=6432, starttls="postgres")


@pytest.mark.parametrize("dsn", ["postgresql://a:b@db/kryonix", "postgresql://a:b@db/kryonix?sslmode=disable"])
def test_postgresql_without_tls_is_no_listener(dsn: str) -> None:
    assert listeners_of({"registry_dsn": dsn}) == {}


def test_every_node_is_one_and_none_without_tls() -> None:
    outputs = {
        "amqp_addresses": ["a:5671", "b:5681"],
        "management_urls": ["https://a:15671", "https://b:15681"],
        "balancer_address": "a:5670",
    }
    secured = listeners_of({**outputs, "management_url": "https://a:15671"})
    assert set(secured) == {"a:5671", "b:5681", "a:15671", "b:15681", "a:5670"}
    plain = {**outputs, "management_urls": ["http://a:15672"], "management_url": "http://a:15672"}
    assert listeners_of(plain) == {}
