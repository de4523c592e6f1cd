"""A real broker and a real PostgreSQL with a certificate of each fault: all that connects refuses it, and says why."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from kryonix.certificates.handshake import StartTls
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.placement import place
from kryonix.certificates.served import served
from kryonix.certificates.trust import context, trust_file, why
from kryonix.messaging import AccessRefused, MessagingClient
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import open_session
from kryonix.registry.errors import RegistryUntrusted, translated
from kryonix.topology.catalog import default_catalog
from kryonix.topology.tenants import Tenant
from tests.support.imported_tenant import import_tenant
from tests.support.load import load
from tests.support.project import PROGRAM, ROOT
from tests.support.tls import CA, FAULTS, faulty, serving
from tests.support.tls_services import HOST, PASSWORD, TlsServices, tls_services
from tests.support.waiting import eventually

BROKER_IMAGE = os.environ.get("KRYONIX_TEST_BROKER_IMAGE", "rabbitmq:4.3.6-management")
POSTGRES_IMAGE = os.environ.get("KRYONIX_TEST_POSTGRES_IMAGE", "postgres:17")
MODULES = tuple(default_catalog().modules)
TENANT = Tenant(id="refused", modules=MODULES, plan="enterprise")
ROUTES = [(name, action) for name in MODULES for action in default_catalog().modules[name].actions][:18]


@dataclass(frozen=True, kw_only=True)
class Served:
    """Both services, and a connection to each from before any fault."""

    services: TlsServices
    registry: psycopg.Connection[Any]
    uri: str

    def outputs(self, ports: Mapping[str, int]) -> dict[str, Any]:
        """Return what a stack's outputs would say of them, at these ports."""
        query = f"sslmode=verify-full&sslrootcert={trust_file(CA.pem)}"
        return {
            "management_url": f"https://{HOST}:{ports['management']}",
            "admin_username": "admin",
            "admin_password": PASSWORD,
            "registry_dsn": f"postgresql://postgres:{PASSWORD}@{HOST}:{ports['postgres']}/postgres?{query}",
            "ca_certificate": CA.pem,
            "tenants": {
                TENANT.id: {"amqp_uri": self.uri.replace(f":{self.services.ports['amqps']}/", f":{ports['amqps']}/")}
            },
        }

    def serve(self, fault: str) -> None:
        """Swap both certificates by rename, and wait until the new one is served by every listener."""
        made = faulty(fault)
        assert made
        leaf = Leaf.read(made.key_pem + made.pem)
        for role in ("rabbitmq", "postgres"):
            place(self.services.folder / role, leaf, CA.pem)
        self.registry.execute("SELECT pg_reload_conf()")
        listeners: dict[str, StartTls] = {"amqps": "", "management": "", "postgres": "postgres"}
        for name, starttls in listeners.items():
            port = self.services.ports[name]
            eventually(f"{name} serves it", lambda: served(HOST, port, starttls=starttls).serial == leaf.serial)  # noqa: B023 - called at once


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("refusals")
    folder.chmod(0o755)  # the services' users reach their folders
    made = faulty("good")
    assert made
    good = Leaf.read(made.key_pem + made.pem)
    with tls_services(folder, BROKER_IMAGE, POSTGRES_IMAGE) as services:
        for role in ("rabbitmq", "postgres"):
            place(folder / role, good, CA.pem)
        ca_file = folder / "ca.pem"
        ca_file.write_text(CA.pem)
        url = f"https://{HOST}:{services.ports['management']}"
        broker = Broker(url, "admin", PASSWORD, ca_certificate=CA.pem)
        eventually("the broker serves", broker.answers)
        uri = import_tenant(broker, TENANT, f"{HOST}:{services.ports['amqps']}").replace("amqp:", "amqps:")
        registry = eventually(
            "PostgreSQL serves", lambda: services.connect(ca_file), ignoring=(psycopg.OperationalError,)
        )
        with registry:
            yield Served(services=services, registry=registry, uri=uri)


@pytest.fixture
def faults(working: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The services, with a good certificate again after the test."""
    monkeypatch.chdir(tmp_path)  # a file with the CA is written there
    for name in PROGRAM:
        (tmp_path / name).symlink_to(ROOT / name)
    yield working
    working.serve("good")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_by_everything_that_connects(faults: Served, fault: str, tmp_path: Path) -> None:
    """Without TLS, the services answer a TLS client as the little server does that takes their place."""
    with serving(None) as plain:
        if fault == "plain":
            ports = dict.fromkeys(faults.services.ports, plain)
        else:
            faults.serve(fault)
            ports = dict(faults.services.ports)
        outputs = faults.outputs(ports)
        said = {client.__name__: client(outputs) for client in CLIENTS}
    assert {name: text for name, text in said.items() if not tells(fault, text)} == {}
    assert PASSWORD not in str(said)


def tells(fault: str, text: str) -> bool:
    return f"{fault}: " in text or (fault == "plain" and "this port has no TLS" in text)


def by_sdk(outputs: dict[str, Any]) -> str:
    uri, ca_file = uri_in(outputs), trust_file(outputs["ca_certificate"])
    with pytest.raises(AccessRefused) as error:
        asyncio.run(MessagingClient.connect(uri, ca_file=ca_file, application="refused", timeout=600))
    return str(error.value)


def by_httpx(outputs: dict[str, Any]) -> str:
    with pytest.raises(httpx.ConnectError) as error:
        httpx.get(outputs["management_url"], verify=context(outputs["ca_certificate"]), timeout=60)
    return why(error.value, HOST) or str(error.value)


def by_management_client(outputs: dict[str, Any]) -> str:
    with pytest.raises(BrokerUnavailable) as error, Broker.of(outputs) as broker:
        broker.version()
    return str(error.value)


def by_psycopg(outputs: dict[str, Any]) -> str:
    with pytest.raises(psycopg.OperationalError) as error:
        psycopg.connect(outputs["registry_dsn"])
    return why(error.value, HOST) or str(error.value)


def by_registry(outputs: dict[str, Any]) -> str:
    dsn = outputs["registry_dsn"]
    with pytest.raises(RegistryUntrusted) as error, translated(dsn):
        open_session(dsn)
    return str(error.value)


def by_command_at_registry(outputs: dict[str, Any]) -> str:
    file = Path("platform.json")
    file.touch(mode=0o600)
    file.write_text(json.dumps({"prod": outputs}))
    return failed("tenant", "list", "--stack", "prod", KRYONIX_PLATFORM_FILE=str(file))


def by_command_at_broker(outputs: dict[str, Any]) -> str:
    trust = trust_file(outputs["ca_certificate"])
    return failed("dead-letters", "list", KRYONIX_AMQP_URI=uri_in(outputs), KRYONIX_CA_FILE=trust)


CLIENTS = (
    by_sdk,
    by_httpx,
    by_management_client,
    by_psycopg,
    by_registry,
    by_command_at_registry,
    by_command_at_broker,
)


def uri_in(outputs: dict[str, Any]) -> str:
    return str(outputs["tenants"][TENANT.id]["amqp_uri"])


def failed(*arguments: str, **environment: str) -> str:
    """Return what a command says as it fails, without a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "kryonix", *arguments],
        env={**os.environ, **environment, "COLUMNS": "400", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_renewed_certificate_fails_no_send_of_200_a_second(faults: Served) -> None:
    """Each listener serves the new one while the SDK's clients go on over the connections they have."""

    async def connect(**options: Any) -> MessagingClient:
        return await MessagingClient.connect(faults.uri, ca_file=ca_file, timeout=60, **options)

    ca_file = trust_file(CA.pem)
    with load(connect, ROUTES) as running:
        opened = connections(faults)
        running.mark()
        for _ in range(3):
            faults.serve("good")
            running.flows()
        outcome = running.outcome()
        assert connections(faults) == opened, "no client has connected again"
    assert outcome.intact, outcome


def connections(faults: Served) -> set[str]:
    """Return the names of the broker's connections of the load, once it lists all of them."""
    with Broker.of(faults.outputs(faults.services.ports)) as broker:

        def look() -> set[str] | None:
            found = {each["name"] for each in broker.get("connections", columns="name")}
            return found if len(found) >= 6 else None

        return eventually("the connections are listed", look)


def test_a_client_of_the_new_certificate_connects(faults: Served) -> None:
    """So the refusals above are the certificates' doing."""
    began = time.monotonic()
    asyncio.run(_sends(faults.uri, trust_file(CA.pem)))
    assert time.monotonic() - began < 60
    with Broker.of(faults.outputs(faults.services.ports)) as broker:
        assert broker.version()
    open_session(faults.outputs(faults.services.ports)["registry_dsn"]).close()


async def _sends(uri: str, ca_file: str) -> None:
    async with await MessagingClient.connect(uri, ca_file=ca_file, application="refused", timeout=60) as client:
        await client.send("portal", "interacoes.track", {})
