"""Connections of an administrator over AMQP: to a node that answers, and to none without a trusted certificate."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kryonix.rabbitmq.amqp import connect
from kryonix.rabbitmq.counts import BrokerAccess
from tests.support.tls import CA, FAULTS, HOST, faulty, serving

OUTPUTS = {
    "management_url": "http://b:15672",
    "admin_username": "admin",
    "admin_password": "s3cret",
    "amqp_host": "b",
    "amqp_port": 5672,
}


def access(*ports: int, tls: bool = False) -> BrokerAccess:
    scheme = "https" if tls else "http"
    several = {"amqp_addresses": [f"{HOST}:{port}" for port in ports], "ca_certificate": CA.pem if tls else ""}
    given = {**OUTPUTS, "management_url": f"{scheme}://b:1", "amqp_host": HOST, "amqp_port": ports[0], **several}
    return BrokerAccess.of(given)


def test_outputs_of_one_node_without_tls_are_read_as_before() -> None:
    found = BrokerAccess.of(OUTPUTS)
    assert found.amqp == [("b", 5672)]
    assert (found.management_urls, found.amqp_tls, found.ca_certificate) == ((), False, "")


def test_an_https_address_of_an_operators_proxy_does_not_mean_amqps() -> None:
    assert not BrokerAccess.of({**OUTPUTS, "management_url": "https://proxy"}).amqp_tls


def test_every_node_of_the_outputs_is_known_once_and_the_first_is_first() -> None:
    found = BrokerAccess.of({**OUTPUTS, "amqp_addresses": ["b:5672", "[::1]:5682"]})
    assert found.amqp == [("b", 5672), ("::1", 5682)]
    assert "s3cret" not in repr(found)


def test_every_node_that_does_not_connect_is_named() -> None:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
        ports = [each.getsockname()[1] for each in (one, two)]
    with pytest.raises(ConnectionError) as error:
        asyncio.run(connect(access(*ports), "/", timeout=5))
    assert all(f"{HOST}:{port}: " in str(error.value) for port in ports)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_tls_is_refused_by_its_name(fault: str) -> None:
    with serving(faulty(fault)) as port, pytest.raises(ConnectionError, match=f"^{fault}: .*{HOST}:{port}"):
        asyncio.run(connect(access(port, tls=True), "/", timeout=5))
