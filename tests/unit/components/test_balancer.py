"""The balancer: what its container is given, and how HAProxy reaches the nodes."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_docker as docker
import pytest

from components.balancer import Balancer, BalancerArgs, configuration
from components.balancer_settings import BalancerSettings
from components.host_settings import Host, HostSettings
from components.platform_inside import NodeInside, metrics_targets, nodes_inside
from components.tls_settings import TlsSettings
from tests.support.mocked import registered
from tests.support.platform_settings import platform_settings

NODES = [
    NodeInside(name=f"rabbitmq-{number}", host=f"rabbitmq-{number}", amqp_port=5671, management_port=15671)
    for number in (1, 2, 3)
]
FOLDER = "/usr/local/etc/haproxy"
CA = "-----BEGIN CERTIFICATE-----"


def container(**given: Any) -> dict[str, Any]:
    """Return the container's inputs."""

    def program() -> None:
        args: dict[str, Any] = {
            "settings": BalancerSettings(image="haproxy:3.2", port=5670),
            "network": docker.Network("broker", name="broker-net"),
            "nodes": NODES,
            "address": "0.0.0.0",
            "advertised_host": "broker.example",
        }
        pulumi.export("address", Balancer("balancer", BalancerArgs(**{**args, **given})).address)

    (made,) = registered(program).of("docker:index/container:Container").values()
    return dict(made)


def files(inputs: dict[str, Any]) -> dict[str, str]:
    return {upload["file"]: upload["content"] for upload in inputs["uploads"]}


def test_its_container_may_do_nothing_and_publishes_amqp_only() -> None:
    inputs = container()
    assert inputs["name"] == "kryonix-dev-balancer"
    assert inputs["capabilities"] == {"drops": ["ALL"]}
    assert inputs["securityOpts"] == ["no-new-privileges"]
    assert inputs["user"] == "haproxy"
    assert inputs["ports"] == [{"internal": 5672, "ip": "0.0.0.0", "external": 5670}]
    assert [joined["name"] for joined in inputs["networksAdvanced"]] == ["broker-net"]
    assert files(inputs) == {f"{FOLDER}/haproxy.cfg": configuration(NODES)}


def test_nodes_with_tls_are_verified_and_get_the_clients_bytes_unchanged() -> None:
    uploaded = files(container(tls=True, trust=CA))
    assert uploaded[f"{FOLDER}/ca.pem"] == CA
    servers = [line.split() for line in uploaded[f"{FOLDER}/haproxy.cfg"].splitlines() if "server rabbitmq-" in line]
    assert [words[1:3] for words in servers] == [[node.name, f"{node.host}:5671"] for node in NODES]
    for words, node in zip(servers, NODES, strict=True):
        options = " ".join(words)
        assert f"check port 15671 check-ssl check-sni {node.name} verify required verifyhost {node.name}" in options
        assert f"ca-file {FOLDER}/ca.pem" in options
        assert "ssl" not in words, "the client's TLS ends at the node"


def test_certificates_of_unknown_cas_are_not_verified() -> None:
    uploaded = files(container(tls=True))
    assert list(uploaded) == [f"{FOLDER}/haproxy.cfg"]
    assert uploaded[f"{FOLDER}/haproxy.cfg"].count(" check-ssl check-sni rabbitmq-") == len(NODES)
    assert "ca-file" not in uploaded[f"{FOLDER}/haproxy.cfg"]


def test_nodes_of_other_machines_are_reached_at_their_addresses() -> None:
    hosts = HostSettings(hosts=[Host(address=f"10.0.0.{n}", docker=f"ssh://{n}" if n > 1 else "") for n in (1, 2, 3)])
    given: dict[str, Any] = {"hosts": hosts, "broker_nodes": 3, "tls": TlsSettings(on=True)}
    found = nodes_inside(platform_settings(**given))
    assert [(each.name, each.amqp, each.management_port) for each in found] == [
        ("rabbitmq-1", "rabbitmq-1:5671", 15671),
        ("rabbitmq-2", "10.0.0.2:5672", 15672),
        ("rabbitmq-3", "10.0.0.3:5672", 15672),
    ]
    assert metrics_targets(found) == ["rabbitmq-1:15691", "10.0.0.2:9419", "10.0.0.3:9419"]


def test_without_tls_nothing_is_verified() -> None:
    text = configuration(NODES)
    assert "check-ssl" not in text
    assert text.count("check port 15671\n") == len(NODES)


def test_a_node_at_an_ipv6_address_has_brackets() -> None:
    node = NodeInside(name="rabbitmq-2", host="fd00::2", amqp_port=5672, management_port=15672)
    assert "server rabbitmq-2 [fd00::2]:5672 check port 15672\n" in configuration([node])


def test_one_node_needs_no_balancer(caplog: pytest.LogCaptureFixture) -> None:
    container()
    assert not caplog.messages
    container(nodes=NODES[:1])
    assert ["kryonix:balancer: the broker has one node" in each for each in caplog.messages] == [True]
