"""Tenants with and without a password on one platform with TLS, reached through its balancer."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pika
import pytest

from kryonix.certificates.leaf import Leaf
from kryonix.certificates.trust import context
from kryonix.messaging import MessagingClient
from kryonix.topology.naming import Names
from tests.acceptance.conftest import changed
from tests.support.project import Project, free_port, tenant

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform with TLS and a balancer; `acme` has a password, `bank` a certificate."""
    folder = tmp_path_factory.mktemp("certificates") / "project"
    by_password, certified = tenant("acme", "portal", plan="basic"), tenant("bank", "portal", plan="basic")
    project = Project.platform(folder, by_password, certified | {"auth": "certificate"})
    project.configure(tls="true", balancer=True, balancerPort=free_port(), brokerMemoryMb=512)
    with project.running():
        yield project


def handed_out(platform: Project, tenant_id: str, folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """Return the file of a tenant's credentials, and what is in it."""
    file = folder / f"{tenant_id}.json"
    result = platform.kryonix(
        "tenant", "credentials", tenant_id, "--stack", platform.stack, "--engine", "local", "--output", str(file)
    )
    assert result.returncode == 0, result.stderr
    return file, json.loads(file.read_text())


def shown(credentials: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    """Return a foreign client's settings: the platform's CA, and the tenant's certificate if it has one."""
    made = context(credentials["ca_certificate"])
    if certificate := credentials.get("client_certificate"):
        file = folder / "client.pem"
        file.write_text(credentials["client_key"] + certificate)
        made.load_cert_chain(file)
    return made


def opens(platform: Project, vhost: str, credentials: Mapping[str, Any], folder: Path) -> bool:
    """Return True if pika gets into a vhost through the balancer, with what was handed out."""
    host, _, port = str(platform.outputs()["balancer_address"]).rpartition(":")
    by_password = pika.PlainCredentials(credentials["username"], credentials["password"])
    login = pika.credentials.ExternalCredentials() if "client_key" in credentials else by_password
    options = pika.SSLOptions(shown(credentials, folder), host)
    try:
        pika.BlockingConnection(pika.ConnectionParameters(host, int(port), vhost, login, ssl_options=options)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


async def test_each_gets_into_its_own_vhost_only(platform: Project, tmp_path: Path) -> None:
    for tenant_id, other in (("acme", "bank"), ("bank", "acme")):
        file, credentials = handed_out(platform, tenant_id, tmp_path)
        assert opens(platform, Names(tenant_id).vhost, credentials, tmp_path)
        assert not opens(platform, Names(other).vhost, credentials, tmp_path)
        async with await MessagingClient.connect(outputs=file) as client:
            await client.ping()
            assert await client.queue_stats(), "the password is for the figures"


def test_only_the_one_with_a_password_is_handed_one_for_messages(platform: Project, tmp_path: Path) -> None:
    _, acme = handed_out(platform, "acme", tmp_path)
    _, bank = handed_out(platform, "bank", tmp_path)
    assert "client_certificate" not in acme
    issued = Leaf(chain=bank["client_certificate"], key="")
    assert not issued.issued_by(bank["ca_certificate"]), "it would pass for a service's, also between nodes"
    assert bank["amqp_uri"].startswith("amqps://kryonix_bank@")
    without = {key: value for key, value in bank.items() if not key.startswith("client_")}
    assert not opens(platform, Names("bank").vhost, without, tmp_path)


def test_both_are_found_isolated(platform: Project) -> None:
    result = platform.kryonix("check", "--stack", platform.stack, "--engine", "local", "--json")
    found = [each for each in json.loads(result.stdout)["findings"] if each["check"] == "isolation"]
    assert {(each["tenant"], each["outcome"]) for each in found} == {("acme", "pass"), ("bank", "pass")}


def test_a_second_run_changes_nothing_and_hides_the_keys(platform: Project) -> None:
    assert changed(platform.must("preview")) == []
    shown = platform.run("outputs").stdout
    assert "BEGIN PRIVATE KEY" not in shown
    assert "BEGIN PRIVATE KEY" not in platform.run("export").stdout


def test_a_rotation_hands_out_another_certificate_and_ends_the_old_one(platform: Project, tmp_path: Path) -> None:
    def operated(*arguments: str) -> Any:
        result = platform.kryonix("tenant", *arguments, "--stack", platform.stack, "--engine", "local", "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    vhost = Names("west").vhost
    first = operated("create", "west", "--modules", "portal", "--plan", "basic", "--auth", "certificate")
    assert opens(platform, vhost, first, tmp_path)
    second = operated("rotate", "west")
    assert second["username"] == "kryonix_west.2"
    assert opens(platform, vhost, second, tmp_path)
    assert opens(platform, vhost, first, tmp_path), "both work while they overlap"
    third = operated("rotate", "west", "--overlap-hours", "0")
    assert opens(platform, vhost, third, tmp_path)
    assert not opens(platform, vhost, first, tmp_path)
    assert not opens(platform, vhost, second, tmp_path)
