"""One platform with TLS, in order: its listeners and tenants, a renewal, a change of its CA under traffic, and ACME."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import httpx
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from components.product import IMAGE
from kryonix.backup.encryption import new_identity
from kryonix.certificates.handshake import StartTls, connect
from kryonix.certificates.served import Served, served
from kryonix.certificates.trust import context, show
from kryonix.cli.output.console import write_private
from kryonix.messaging import MessagingClient
from tests.acceptance.conftest import changed
from tests.support.containers import bridge_address, output_of
from tests.support.deployments import entangled
from tests.support.live_broker import LiveBroker
from tests.support.pebble import HOST, pebble
from tests.support.project import ROOT, Project, free_port, tenant
from tests.support.signup_service import Caller
from tests.support.waiting import eventually, eventually_async

QUEUE = "cliente_acme.crm.leads.create"
LISTENERS = ("amqp", "management", "metrics", "registry", "signup")
CHOOSING = ("amqp", "management", "metrics", "signup")
"""Those that choose their certificate by the name that a client uses."""
PUBLIC_NAME = "messaging.example.com"
PLAIN_PORTS = {5672, 15672, 15692}
ENCRYPTED_PORTS = {5671, 15671, 15691}
ENCRYPTED_JOBS = {"kryonix-broker", "kryonix-tenants", "kryonix-tenant-bytes", "kryonix-signup"}
INSIDE = {*(f"rabbitmq:{port}" for port in ENCRYPTED_PORTS), "postgres:5432", "web:8080"}
"""The listeners as containers reach them."""


class Platform:
    """The platform, its outputs as they were first, and its containers."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.outputs = project.outputs()
        self.docker = docker.from_env()
        self.trust = str(self.outputs["ca_certificate"])
        urls = {name: self.outputs[f"{name}_url"] for name in ("management", "metrics", "signup")}
        urls |= {"amqp": self.outputs["tenants"]["acme"]["amqp_uri"], "registry": self.outputs["registry_dsn"]}
        self.addresses = {name: (str(urlsplit(url).hostname), urlsplit(url).port or 0) for name, url in urls.items()}

    def container(self, role: str) -> Any:
        return self.docker.containers.get(f"kryonix-{self.project.stack}-{role}")

    def containers(self) -> dict[str, str]:
        return {container.name: str(container.id) for container in self.project.containers()}

    def handshake(self, name: str, trust: ssl.SSLContext) -> str | None:
        """Return the version of TLS that a listener agrees to."""
        with connect(*self.addresses[name], trust, starttls=starttls(name)) as connection:
            return connection.version()

    def serials(self) -> dict[str, int]:
        return {name: served(*self.addresses[name], starttls=starttls(name)).serial for name in LISTENERS}

    def shown(self, name: str) -> Served:
        """Return what a listener shows to a client that uses the public name."""
        return served(*self.addresses[name], name=PUBLIC_NAME)

    def shows_pebbles(self, name: str) -> bool:
        return "Pebble" in self.shown(name).issuer

    def asked(self, path: str, **parameters: str) -> Any:
        """Return what Prometheus answers."""
        answer = httpx.get(f"{self.outputs['prometheus_url']}/api/v1/{path}", params=parameters, trust_env=False)
        return answer.raise_for_status().json()["data"]

    def all_targets_up(self) -> bool:
        """Return True if Prometheus reads every target that it has, those with TLS among them."""
        targets = self.asked("targets")["activeTargets"]
        encrypted = {each["labels"]["job"] for each in targets if each["scrapeUrl"].startswith("https:")}
        return encrypted >= ENCRYPTED_JOBS and {each["health"] for each in targets} == {"up"}

    def must(self, *arguments: str) -> str:
        """Run a command on the stack, and return what it prints."""
        done = self.project.kryonix(*arguments, "--stack", self.project.stack, "--engine", "local")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


def starttls(name: str) -> StartTls:
    return "postgres" if name == "registry" else ""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    # At once, unless the source has changed since the image was built.
    subprocess.run([ROOT / "scripts/product-image", IMAGE], check=True)
    folder = tmp_path_factory.mktemp("tls") / "project"
    acme = tenant("acme", "crm", plan="basic")
    ports = {key: free_port() for key in ("signupPort", "prometheusPort", "alertmanagerPort")}
    project = Project.platform(folder, acme, tls="true", signup=True, monitoring=True, **ports)
    with project.running():
        made = Platform(project)
        with closing(made.docker):
            yield made


def test_a_second_run_changes_nothing(platform: Platform) -> None:
    assert changed(platform.project.must("preview")) == []


def test_no_container_is_replaced_along_with_another(platform: Platform) -> None:
    assert entangled(json.loads(platform.must("export"))["deployment"]["resources"]) == []


@pytest.mark.parametrize("name", LISTENERS)
def test_a_listener_speaks_tls_1_2_and_1_3_only(platform: Platform, name: str) -> None:
    assert platform.handshake(name, context(platform.trust)) == "TLSv1.3"
    older = context(platform.trust)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    assert platform.handshake(name, older) == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_1
    older.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        platform.handshake(name, older)


@pytest.mark.parametrize("name", LISTENERS)
def test_no_other_ca_is_trusted(platform: Platform, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        platform.handshake(name, context(""))


def test_a_services_certificate_logs_nobody_in(platform: Platform) -> None:
    """Its common name would be the user."""

    def answers(trust: ssl.SSLContext) -> bool:
        try:
            with connect(*platform.addresses["amqp"], trust) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False

    shown = context(platform.trust)
    assert answers(shown)
    show(shown, output_of(platform.container("keeper"), "cat", "/tls/web/server.pem"))
    assert not answers(shown)


def test_the_broker_has_no_plain_listener(platform: Platform) -> None:
    tables = output_of(platform.container("rabbitmq"), "cat", "/proc/net/tcp", "/proc/net/tcp6")
    rows = [line.split() for line in tables.splitlines()]
    listening = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    assert listening >= ENCRYPTED_PORTS
    assert not listening & PLAIN_PORTS


def test_plain_clients_are_refused(platform: Platform) -> None:
    dsn = platform.outputs["registry_dsn"].partition("?")[0]
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(dsn, sslmode="disable")
    for name in ("management", "metrics", "signup"):
        url = platform.outputs[f"{name}_url"].replace("https:", "http:")
        with pytest.raises(httpx.TransportError):
            httpx.get(url)


def test_the_keepers_login_may_load_certificates_and_nothing_else(platform: Platform) -> None:
    text = output_of(platform.container("keeper"), "cat", "/etc/kryonix/certificates.json")
    host, port = platform.addresses["registry"]
    login = urlsplit(json.loads(text)["registry_dsn"])
    with psycopg.connect(
        host=host, port=port, user=login.username, password=login.password, dbname="kryonix_main", autocommit=True
    ) as connection:
        assert connection.execute("SELECT pg_reload_conf()").fetchone() == (True,)
        for statement in ("SELECT * FROM tenants.desired_states", "SELECT pg_switch_wal()"):
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


def test_the_cas_key_is_in_no_plain_state_and_no_containers_settings(platform: Platform) -> None:
    state = "".join(file.read_text() for file in (platform.project.folder / ".kryonix").rglob("*.json*"))
    assert state
    assert "PRIVATE KEY" not in state
    for container in platform.project.containers():
        assert "PRIVATE KEY" not in json.dumps(container.attrs)


def test_a_tenant_that_signs_up_sends_over_tls(platform: Platform, tmp_path: Path) -> None:
    made = json.loads(platform.must("signup", "keys", "create", "a shop", "--scope", "admin", "--json"))
    caller = Caller(platform.outputs["signup_url"], str(made["key"]), platform.trust)
    with closing(caller.http):
        taken = caller.done("POST", "/v1/tenants", {"id": "shop", "plan": "basic", "modules": ["crm"]})
        credentials = caller.credentials(taken)
    assert credentials.amqp_uri.startswith("amqps://")
    write_private(file := tmp_path / "shop.json", credentials.shown())

    async def send() -> None:
        async with await MessagingClient.connect(outputs=file, application="t", timeout=30) as client:
            await client.crm.send("leads.create", {"number": 1})

    asyncio.run(send())


def test_a_renewal_replaces_certificates_and_no_container(platform: Platform) -> None:
    before, containers = platform.serials(), platform.containers()
    platform.must("certificates", "renew")
    after = platform.serials()
    assert not set(before.values()) & set(after.values())
    assert platform.containers() == containers
    for name in LISTENERS:
        assert platform.handshake(name, context(platform.trust)) == "TLSv1.3"
    assert changed(platform.project.must("preview")) == []


def test_a_bundle_is_made_verified_and_restored_over_tls(platform: Platform, tmp_path: Path) -> None:
    recipient, store = new_identity(tmp_path / "identity"), str(tmp_path / "bundles")
    platform.must("backup", "create", "--all", "--to", store, "--recipient", recipient)
    opened = ("--from", store, "--identity", str(tmp_path / "identity"))
    platform.must("backup", "verify", "--all", *opened)
    with LiveBroker(platform.outputs) as broker:
        broker.delete("queues", "/cliente_acme", QUEUE)
        platform.must("backup", "restore", "acme", *opened, "--yes")
        assert broker.has("queues", "/cliente_acme", QUEUE)


def test_a_new_ca_takes_over_in_three_runs_and_no_client_fails(platform: Platform) -> None:
    """A client has the new bundle before the new CA issues: that is what the first run is for."""
    project, uri = platform.project, platform.outputs["tenants"]["acme"]["amqp_uri"]
    served_by = platform.containers()
    first = platform.trust
    project.configure(caTrusted=[1, 2])
    project.must("up")
    both = str(project.outputs()["ca_certificate"])
    assert both.startswith(first)
    assert both.count("BEGIN CERTIFICATE") == 2
    platform.handshake("amqp", context(first))

    async def through() -> None:
        async with await MessagingClient.connect(uri, application="t", timeout=30, ssl_context=context(both)) as client:
            done, handled = asyncio.Event(), 0

            async def handle(_message: object) -> None:
                nonlocal handled
                handled += 1

            await client.crm.consume("leads.create", handle)

            async def send() -> int:
                count = 0
                while not done.is_set():
                    await client.crm.send("leads.create", {"number": count}, timeout=5)
                    count += 1
                return count

            sending = asyncio.create_task(send())
            for change in ({"caIssuing": 2}, {"caTrusted": [2]}):
                project.configure(**change)
                await asyncio.to_thread(project.must, "up")
                await asyncio.to_thread(platform.must, "certificates", "check")
            done.set()
            sent = await sending
            assert sent > 0
            await eventually_async(lambda: handled >= sent)

    asyncio.run(through())
    only = str(project.outputs()["ca_certificate"])
    assert both == first + only
    for name in LISTENERS:
        assert platform.handshake(name, context(only)) == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):
            platform.handshake(name, context(first))
    clients = output_of(platform.container("rabbitmq"), "cat", "/tls/clients.pem")
    assert clients == project.outputs()["client_authority"]["certificate"]
    assert clients != platform.outputs["client_authority"]["certificate"]
    kept = ("rabbitmq", "postgres", "web")
    assert all(platform.container(role).id == served_by[f"kryonix-{project.stack}-{role}"] for role in kept)
    assert changed(project.must("preview")) == []


def test_monitoring_reads_every_service_and_certificate_over_tls(platform: Platform) -> None:
    """With the new CA too: Prometheus and the exporter got it by the runs before."""
    eventually("all targets are up", platform.all_targets_up)

    def read() -> bool:
        found = platform.asked("query", query="kryonix_certificate_expiry_timestamp_seconds")["result"]
        unread = platform.asked("query", query="kryonix_exporter_source_readable == 0")["result"]
        return {each["metric"]["endpoint"] for each in found} == INSIDE and not unread

    eventually("the exporter reads every certificate", read)


def test_a_plain_platform_that_others_reach_is_not_changed_unasked(platform: Platform) -> None:
    platform.project.configure(tls="false", bindAddress="127.0.0.1", advertisedHost="127.0.0.1")
    platform.project.must("up")
    assert changed(platform.project.must("preview")) == []
    plain = platform.project.outputs()
    assert plain["management_url"].startswith("http:")
    assert plain["ca_certificate"] == ""
    platform.project.configure(tls="auto", advertisedHost="mensagens.example")
    platform.project.must("up")
    platform.project.configure(metricsAddress="0.0.0.0")
    for operation in ("preview", "up"):
        refused = platform.project.run(operation)
        assert refused.returncode == 2
        assert "kryonix:tls" in refused.stderr


def test_tls_and_a_certificate_for_a_public_name_come_in_one_run(platform: Platform, tmp_path: Path) -> None:
    """Services that choose by the name show it, and their own to all others. Clients without the bundle accept it."""
    gateway = bridge_address(platform.docker)
    with pebble(tmp_path, gateway) as ca:
        given = {"acmeDirectory": ca.directory, "acmeNames": [PUBLIC_NAME], "acmePort": ca.port}
        platform.project.configure(tls="true", advertisedHost=HOST, caCertificate=ca.trusted(), **given)
        platform.project.must("up")
        outside, bundle = context(ca.root()), context(str(platform.project.outputs()["ca_certificate"]))
        for name in CHOOSING:
            eventually(f"{name} shows it", partial(platform.shows_pebbles, name))
            connect(*platform.addresses[name], outside, name=PUBLIC_NAME).close()
            connect(*platform.addresses[name], bundle, name=PUBLIC_NAME).close()
        for name in LISTENERS:
            assert platform.handshake(name, bundle) == "TLSv1.3"
            with pytest.raises(ssl.SSLCertVerificationError):
                platform.handshake(name, outside)
        before, containers = {platform.shown(name).serial for name in CHOOSING}, platform.containers()
        platform.must("certificates", "renew")
        after = {platform.shown(name).serial for name in CHOOSING}
        assert (len(before), len(after), before & after) == (1, 1, set())
        assert platform.containers() == containers
    rows = json.loads(platform.must("certificates", "list", "--json"))
    public = {each["address"]: each["state"] for each in rows if each["service"] == "public"}
    assert public == {"rabbitmq:5671": "served", "web:8080": "served"}
    assert changed(platform.project.must("preview")) == []
