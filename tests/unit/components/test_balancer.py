"""The balancer: what its container is given, and how HAProxy reaches the nodes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pulumi
import pulumi_docker as docker
import pytest

from components.balancer import BalancedNode, Balancer, BalancerArgs, configuration, nodes_of
from components.balancer_settings import BalancerSettings
from components.node_settings import NodeSettings
from components.settings import PlatformSettings
from components.tls_settings import TlsSettings
from tests.support.mocked import registered

NODES = [
    BalancedNode(name=f"rabbitmq-{number}", host=f"rabbitmq-{number}", amqp_port=5671, management_port=15671)
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
    made = NodeSettings.of(3, "kryonix-dev-rabbitmq", local="h", address="h", amqp=1, management=2, metrics=3)
    third = replace(made.nodes[2], docker="ssh://other", address="10.0.0.3", amqp_port=5671, management_port=15671)
    nodes = replace(made, nodes=[*made.nodes[:2], third])
    found = nodes_of(cast("PlatformSettings", SimpleNamespace(nodes=nodes, tls=TlsSettings(on=True))))
    assert [(each.name, each.host, each.amqp_port, each.management_port) for each in found] == [
        ("rabbitmq-1", "rabbitmq-1", 5671, 15671),
        ("rabbitmq-2", "rabbitmq-2", 5671, 15671),
        ("rabbitmq-3", "10.0.0.3", 5671, 15671),
    ]


def test_without_tls_nothing_is_verified() -> None:
    text = configuration(NODES)
    assert "check-ssl" not in text
    assert text.count("check port 15671\n") == len(NODES)


def test_a_node_at_an_ipv6_address_has_brackets() -> None:
    node = BalancedNode(name="rabbitmq-2", host="fd00::2", amqp_port=5672, management_port=15672)
    assert "server rabbitmq-2 [fd00::2]:5672 check port 15672\n" in configuration([node])


def test_one_node_needs_no_balancer(caplog: pytest.LogCaptureFixture) -> None:
    container()
    assert not caplog.messages
    container(nodes=NODES[:1])
    assert ["kryonix:balancer: the broker has one node" in each for each in caplog.messages] == [True]
