"""The certificate for public names: whose names, and what of a platform changes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pulumi
import pulumi_docker as docker
import pytest

from components.acme_settings import AcmeSettings
from components.broker import inputs_digest
from components.certificate_keeper import CertificateKeeper, CertificateKeeperArgs, Place
from components.errors import InvalidStack
from components.host_settings import Host, HostSettings
from components.tls_settings import TlsSettings
from tests.support.mocked import registered
from tests.support.tls import CA
from tests.unit.components.test_broker_cluster import containers, files, settings

ACME = AcmeSettings(directory="https://ca.example/dir", names=("messaging.example.com",), contact="a@example.com")
PRIVATE = TlsSettings(on=True)
PUBLIC = TlsSettings(on=True, acme=ACME, certificate_ca=CA.pem)
FILE = "/etc/kryonix/certificates.json"


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")


def keeper(tls: TlsSettings) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the inputs of a keeper's container, and its file."""

    def program() -> None:
        of = pulumi.Output.from_input
        issuing = SimpleNamespace(certificate=of("issuing"), key=of("its key"))
        trusts = {"own": of("own"), "trust": of("own, others"), "clients": of("clients")}
        authorities: Any = SimpleNamespace(issuing=issuing, **trusts)
        volume, network = docker.Volume("volume", name="volume"), docker.Network("network", name="network")
        places = [
            Place(role="rabbitmq", volume=volume, host="rabbitmq", port=5671, public=True),
            Place(role="postgres", volume=volume, host="postgres", port=5432, starttls="postgres"),
        ]
        args = CertificateKeeperArgs(
            settings=settings(1, tls=tls), authorities=authorities, places=places, networks=[network]
        )
        CertificateKeeper("keeper", args)

    (inputs,) = containers(registered(program))
    return inputs, json.loads(files(inputs)[FILE]["content"])


def test_a_keeper_without_it_has_no_part_of_it() -> None:
    inputs, file = keeper(PRIVATE)
    assert not inputs.get("ports")
    assert inputs["capabilities"]["adds"] == ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]
    assert [volume["containerPath"] for volume in inputs["volumes"]] == ["/tls/rabbitmq", "/tls/postgres"]
    assert file.keys() == {"authorities", "places", "registry_dsn"}
    assert {tuple(place) for place in file["places"]} == {("endpoint", "folder", "names", "role", "starttls")}
    assert file["authorities"]["trusted"] == "own, others"


def test_a_keeper_with_it_answers_the_challenge_and_keeps_what_is_issued() -> None:
    inputs, file = keeper(PUBLIC)
    assert inputs["ports"] == [{"internal": 80, "external": 80, "ip": "0.0.0.0"}]
    assert inputs["capabilities"]["adds"][-1] == "CAP_NET_BIND_SERVICE"
    assert {"containerPath": "/tls/acme", "volumeName": "kryonix-dev-acme-tls"} in inputs["volumes"]
    assert file["acme"] == {
        "directory": "https://ca.example/dir",
        "folder": "/tls/acme",
        "names": ["messaging.example.com"],
        "contact": "a@example.com",
        "port": 80,
        "trusted": CA.pem,
    }
    assert [place.get("public", False) for place in file["places"]] == [True, False]
    assert file["authorities"]["trusted"] == "own", "nodes trust no CA outside"
    assert "source" not in file


def test_services_that_choose_by_the_name_have_it_in_their_own_one_too() -> None:
    """That is what they show until the public one is there."""
    with_it, without = settings(3, tls=PUBLIC), settings(3, tls=PRIVATE)
    for role in ("rabbitmq", "rabbitmq-2", "web"):
        assert {*with_it.names_of(role)} == {*without.names_of(role), "messaging.example.com"}
    assert with_it.names_of("postgres") == without.names_of("postgres")
    assert with_it.names_of("rabbitmq")[0] == "rabbitmq"


def test_it_changes_the_inputs_of_a_node_and_its_contact_does_not() -> None:
    def digest(tls: TlsSettings) -> str:
        platform = settings(1, tls=tls)
        return inputs_digest(platform.nodes.first, platform)

    other = AcmeSettings(directory="https://other.example/dir", names=ACME.names)
    assert digest(PRIVATE) != digest(PUBLIC) == digest(TlsSettings(on=True, acme=other, certificate_ca=CA.pem))


def test_several_machines_and_a_port_twice_are_refused() -> None:
    hosts = HostSettings(hosts=[Host(address="10.0.0.1")])
    with pytest.raises(
        InvalidStack, match=r"kryonix:acmeDirectory: .* kryonix:hosts are several\. Use .*certificateDir"
    ):
        settings(1, tls=PUBLIC, hosts=hosts)
    same = AcmeSettings(directory=ACME.directory, names=ACME.names, port=5672)
    with pytest.raises(InvalidStack, match=r"the same port: .*kryonix:acmePort 5672"):
        settings(1, tls=TlsSettings(on=True, acme=same, certificate_ca=CA.pem))
