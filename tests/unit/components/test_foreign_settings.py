"""The addresses of a platform that a tenant's stack names in its own config, and which of them are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.errors import InvalidStack
from components.foreign_settings import AMQP_TLS, ForeignSettings

URLS = ("http://one:15672", "http://two:15672", "http://three:15672")
ADDRESSES = ("one:5672", "two:5672", "[fd00::3]:5672")


def settings(**changed: Any) -> ForeignSettings:
    given: dict[str, Any] = {"management_url": URLS[0], "amqp_host": "one", "amqp_port": "5672", **changed}
    return ForeignSettings(**given)


@pytest.mark.parametrize("urls", [(), URLS])
@pytest.mark.parametrize("addresses", [(), ADDRESSES])
def test_each_list_may_be_left_out(urls: tuple[str, ...], addresses: tuple[str, ...]) -> None:
    """One address may lead to all nodes."""
    found = settings(management_urls=urls, amqp_addresses=addresses).nodes
    assert (found["management_urls"], found["amqp_addresses"]) == (list(urls), list(addresses))


@pytest.mark.parametrize(("tls", "ca"), [(True, "PEM"), (False, "")])
def test_amqp_has_tls_by_its_own_key(tls: bool, ca: str) -> None:
    """The management API may be behind a proxy with TLS, and AMQP is not."""
    found = settings(management_url="https://proxy", tls=tls, ca_certificate="PEM").nodes
    assert (found[AMQP_TLS], found["ca_certificate"]) == (tls, ca)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"management_url": "one:15672"},
            "kryonix:managementUrl: 'one:15672' is not the URL of a management API. Write",
        ),
        ({"management_urls": ["two:15672"]}, "kryonix:managementUrls: 'two:15672' is not the URL of a management API"),
        ({"management_urls": [15672]}, "kryonix:managementUrls: 15672 is not the URL"),
        ({"management_urls": ["http://two:99999"]}, "kryonix:managementUrls: 'http://two:99999' is not the URL"),
        (
            {"management_urls": [URLS[0], "https://two:15671"]},
            "kryonix:managementUrls: 'https://two:15671' is https, and kryonix:managementUrl is http. Write the same",
        ),
        ({"amqp_addresses": ["two"]}, "kryonix:amqpAddresses: 'two' is not the HOST:PORT of a node. Write it without"),
        ({"amqp_addresses": ["amqp://two:5672"]}, "kryonix:amqpAddresses: 'amqp://two:5672' is not the HOST:PORT"),
        ({"amqp_addresses": ["two:0"]}, "as in broker-2.example.com:5672"),
        (
            {"amqp_addresses": [5672], "tls": True, "management_url": "https://one:15671"},
            "kryonix:amqpAddresses: 5672 is not the HOST:PORT of a node. Write it without a scheme or a login, as in "
            "broker-2.example.com:5671",
        ),
        (
            {"management_urls": URLS, "amqp_addresses": ADDRESSES[:2]},
            "kryonix:managementUrls has 3 nodes, and kryonix:amqpAddresses 2. List each node in both",
        ),
        (
            {"tls": True},
            "kryonix:managementUrl: 'http://one:15672' is not https, and kryonix:tls is on. Write https://",
        ),
    ],
)
def test_a_wrong_address_is_refused_by_key_and_value(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidStack, match=re.escape(said)):
        settings(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"management_url": "http://admin:hidden@one:15672"},
        {"management_urls": ["http://admin:hidden@two:15672"]},
        {"amqp_addresses": ["admin:hidden@two:5672"]},
    ],
)
def test_a_login_in_an_address_is_refused_and_not_shown(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidStack, match="without a") as error:
        settings(**changed)
    assert "hidden" not in str(error.value)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(InvalidStack) as error:
        settings(management_urls=["x", "y"], amqp_addresses=["z"])
    assert len(error.value.message.splitlines()) == 4
