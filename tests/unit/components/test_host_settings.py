"""`kryonix:hosts`: what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.errors import InvalidStack
from components.host_settings import Host, HostSettings

SSH = [Host(address=f"10.0.0.{n}", docker=f"ssh://ops@10.0.0.{n}") for n in (1, 2, 3)]
TCP = [Host(address=f"10.0.0.{n}", docker=f"tcp://10.0.0.{n}:2376") for n in (1, 2, 3)]


@pytest.fixture(autouse=True)
def certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certificates")


def problems(*hosts: Host, nodes: int = 3, tls: bool = True) -> str:
    return "\n".join(HostSettings(hosts=hosts).problems(nodes, tls=tls))


@pytest.mark.parametrize("hosts", [SSH, TCP, [Host(address="10.0.0.9"), *SSH[1:]], []])
def test_a_machine_for_each_node_is_accepted(hosts: list[Host]) -> None:
    assert not problems(*hosts)


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        (SSH[:2], "2 hosts for 3 nodes"),
        ([*SSH[:2], SSH[0]], "two hosts have the address '10.0.0.1'"),
        ([Host(address="10.0.0.8"), Host(address="10.0.0.9"), SSH[0]], "two hosts have the docker ''"),
        ([*SSH[:2], Host(address="node-3", docker=SSH[2].docker)], "'node-3' is not an IPv4 address"),
        ([*SSH[:2], Host(address="::1", docker=SSH[2].docker)], "'::1' is not an IPv4 address"),
        ([*SSH[:2], Host(address="127.0.0.1", docker=SSH[2].docker)], "'127.0.0.1' is not an IPv4 address"),
        ([*SSH[:2], Host(address="0.0.0.0", docker=SSH[2].docker)], "'0.0.0.0' is not an IPv4 address"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="http://10.0.0.3")], "is not the URL of a Docker daemon"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="ssh://")], "is not the URL of a Docker daemon"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="ssh://ops:secret@10.0.0.3")], "not the URL of a Docker daemon"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="ssh://ops@10.0.0.3:many")], "not the URL of a Docker daemon"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="SSH://ops@10.0.0.3")], "not the URL of a Docker daemon"),
        ([*TCP[:2], Host(address="10.0.0.3", docker="TCP://10.0.0.3:2376")], "not the URL of a Docker daemon"),
        ([*SSH[:2], Host(address="10.0.0.3", docker="ssh://ops@10.0.0.3?a=b")], "not the URL of a Docker daemon"),
        ([*SSH[:2], TCP[2]], "one folder of certificates"),
    ],
)
def test_hosts_that_can_not_work_are_refused(hosts: list[Host], problem: str) -> None:
    found = problems(*hosts)
    assert problem in found
    assert "secret" not in found


def test_nodes_do_not_talk_in_plain_text_over_a_network() -> None:
    assert 'Set kryonix:tls to "true"' in problems(*SSH, tls=False)


def test_a_daemon_is_not_asked_without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CERT_PATH")
    assert "Set DOCKER_CERT_PATH" in problems(*TCP)
    assert not problems(*SSH)


def outputs(*hosts: Host, nodes: int = 3) -> dict[str, Any]:
    """The outputs of a run with these machines."""
    made = HostSettings(hosts=hosts)
    entries = [{"docker": hosts[n].docker if hosts else "", **made.machine(n + 1)} for n in range(nodes)]
    return {"layout": 2, "broker_nodes": entries}


def moved(host: Host) -> Host:
    """The same machine at another address."""
    return replace(host, address=host.address.replace("10.0.", "10.1."))


LOCAL = Host(address="10.0.0.9")


@pytest.mark.parametrize(
    ("before", "now", "node"),
    [
        (outputs(), SSH, 1),
        (outputs(nodes=1), [LOCAL], 1),
        ({"layout": 2}, SSH, 1),
        (outputs(*SSH), [], 1),
        (outputs(*SSH), [SSH[0], SSH[2], SSH[1]], 2),
        (outputs(*SSH[:1], nodes=1), [LOCAL, *SSH[1:]], 1),
    ],
)
def test_a_node_that_exists_stays_on_its_machine(before: dict[str, Any], now: list[Host], node: int) -> None:
    """An engine would delete its volume, or leave it behind, with all messages."""
    with pytest.raises(InvalidStack, match=f"kryonix:hosts: node {node} would get another Docker daemon"):
        HostSettings(hosts=now).refuse_moves(before)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, SSH),
        ({}, []),
        (outputs(), []),
        ({"layout": 2}, []),
        (outputs(*SSH), [moved(SSH[0]), *SSH[1:]]),
        (outputs(*SSH[:1], nodes=1), [moved(SSH[0]), *SSH[1:]]),
        (outputs(LOCAL, nodes=1), [LOCAL, *SSH[1:]]),
    ],
)
def test_new_nodes_and_new_addresses_are_accepted(before: dict[str, Any], now: list[Host]) -> None:
    HostSettings(hosts=now).refuse_moves(before)


def test_two_nodes_of_a_cluster_do_not_move_at_once() -> None:
    """The first to be replaced would look for the second where it is not yet, and be looked for where it was."""
    with pytest.raises(InvalidStack, match=r"addresses of several nodes would change at once.*kryonix cluster roll"):
        HostSettings(hosts=[moved(SSH[0]), moved(SSH[1]), SSH[2]]).refuse_moves(outputs(*SSH))
