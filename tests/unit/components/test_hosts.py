"""The resources of a broker whose nodes have machines of their own."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components.broker_cluster import BrokerCluster, BrokerClusterArgs
from components.docker_daemons import docker_daemons
from components.host_settings import Host, HostSettings
from components.platform_inside import broker_inside
from components.tls_settings import TlsSettings
from tests.support.mocked import Recorder, registered
from tests.unit.components.test_broker_cluster import containers, files, settings

HOSTS = HostSettings(hosts=[Host(address=f"10.0.0.{n}", docker=f"ssh://ops@10.0.0.{n}") for n in (1, 2, 3)])
NAMES = ["kryonix-dev-rabbitmq", "kryonix-dev-rabbitmq-2", "kryonix-dev-rabbitmq-3"]


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The registrations of a broker of three nodes on three machines."""
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")
    given: dict[str, Any] = {"hosts": HOSTS, "tls": TlsSettings(on=True), "address": "10.0.0.1"}

    def program() -> None:
        password, platform = pulumi.Output.secret("the admin's"), settings(3, **given)
        daemons = docker_daemons(HOSTS)
        BrokerCluster("broker", BrokerClusterArgs(settings=platform, admin_password=password, daemons=daemons))

    return registered(program)


def test_a_machine_has_the_ports_and_the_network_of_its_node(spread: Recorder) -> None:
    for number, inputs in enumerate(containers(spread), 1):
        published = {(port["ip"], port["internal"], port["external"]) for port in inputs["ports"]}
        address = f"10.0.0.{number}"
        ports = {(address, 5671, 5672), (address, 15671, 15672), (address, 4369, 4369), (address, 25672, 25672)}
        assert published == ports | {(address, 15691, 9419)}
        assert [network["name"] for network in inputs["networksAdvanced"]] == [f"{NAMES[number - 1]}-network"]


def test_nodes_find_each_other_by_their_machines_addresses(spread: Recorder) -> None:
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(NAMES, 1)}
    for inputs in containers(spread):
        others = {named["host"]: named["ip"] for named in inputs["hosts"]}
        assert others == {name: address for name, address in addresses.items() if name != inputs["name"]}


def test_nodes_speak_tls_with_each_other(spread: Recorder) -> None:
    for inputs in containers(spread):
        assert "/etc/rabbitmq/inter_node_tls.config" in files(inputs)
        assert all("-proto_dist inet_tls" in variable for variable in inputs["envs"])
        assert len(inputs["envs"]) == 2, "the server, and the command-line tools"


def test_the_first_machine_reaches_the_others_nodes_by_their_addresses() -> None:
    nodes = settings(3, hosts=HOSTS, tls=TlsSettings(on=True), address="10.0.0.1").nodes
    inside = broker_inside(tls=True, elsewhere=nodes.elsewhere)
    assert inside["amqp_addresses"] == ["rabbitmq:5671", "10.0.0.2:5672", "10.0.0.3:5672"]
    assert inside["management_urls"] == [inside["management_url"], "https://10.0.0.2:15672", "https://10.0.0.3:15672"]


def test_each_daemon_is_a_provider_without_a_secret(spread: Recorder) -> None:
    providers = spread.of("pulumi:providers:docker")
    assert {name: inputs["host"] for name, inputs in providers.items()} == {
        f"docker-{number}": f"ssh://ops@10.0.0.{number}" for number in (1, 2, 3)
    }
    assert {key for inputs in providers.values() for key in inputs} == {"host"}
