"""Clients' certificates at a real broker: each opens its own tenant's vhost, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiormq
import docker
import httpx
import pulumi_docker
import pytest
from aiormq.exceptions import AMQPError
from yarl import URL

from components.balancer import Balancer, BalancerArgs
from components.balancer_settings import BalancerSettings
from components.broker_listeners import CERTIFYING
from components.platform_inside import NodeInside
from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.trust import context
from kryonix.checks.declared import Declared
from kryonix.checks.trials import try_isolation
from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.container_spec import archive
from kryonix.engines.local.values import from_struct, to_struct
from kryonix.messaging import AccessRefused, MessagingClient, MessagingError
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant
from tests.support.mocked import registered
from tests.support.project import free_port
from tests.support.tls import pair
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

_IMAGE: Final = "rabbitmq:4.3.6-management"
_AT_ONCE: Final = 8
_CONTAINER: Final = "docker:index/container:Container"
REFUSED: Final = (AMQPError, OSError)
"""What a refused connection raises: an error of the protocol, or of the handshake."""

TENANTS: Final = [f"tenant-{number:02}" for number in range(20)]


@dataclass(frozen=True)
class Broker:
    """A broker as a platform with TLS runs it, with its CA and its clients', and with each tenant's user and vhost."""

    authority: Authority
    clients: Authority
    network: str
    amqp: int
    management: int
    login: tuple[str, str] = field(repr=False)

    def api(self) -> httpx.Client:
        trusted = context(self.authority.certificate)
        return httpx.Client(base_url=f"https://127.0.0.1:{self.management}/api/", verify=trusted, auth=self.login)

    @property
    def access(self) -> BrokerAccess:
        name, password = self.login
        return BrokerAccess(
            management_url=f"https://127.0.0.1:{self.management}",
            username=name,
            password=password,
            amqp_host="127.0.0.1",
            amqp_port=self.amqp,
            amqp_tls=True,
            ca_certificate=self.authority.certificate,
        )

    def shown(self, leaf: Leaf | None, folder: Path) -> ssl.SSLContext:
        """Return a client's settings: it verifies the broker, and shows a certificate if it has one."""
        made = context(self.authority.certificate)
        if leaf is not None:
            file = folder / f"{leaf.serial}.pem"
            file.write_text(leaf.pem)
            made.load_cert_chain(file)
        return made

    async def opens(
        self, vhost: str, shown: ssl.SSLContext, login: str = "", auth: str = "external", port: int = 0
    ) -> bool:
        """Return True if a client gets into a vhost, at another port than the broker's own if one is given."""
        host = f"{login}@127.0.0.1" if login else "127.0.0.1"
        url = URL(f"amqps://{host}:{port or self.amqp}/").with_path(f"/{vhost}").with_query(auth=auth)
        try:
            connection = await aiormq.connect(url, context=shown)
        except REFUSED:
            return False
        await connection.close()
        return True


def topology_of(tenant_id: str) -> Topology:
    return expand(Tenant(id=tenant_id, modules=("crm",), plan="basic", auth="certificate"), default_catalog())


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    authority, clients = Authority.create("Kryonix test CA 1"), Authority.create("Kryonix test clients' CA 1")
    amqp, management = free_port(), free_port()
    login = ("kryonix_admin", "known to the test")
    with closing(docker.from_env()) as client:
        network = client.networks.create(f"kryonix-certificates-{secrets.token_hex(4)}")
        container = client.containers.create(
            _IMAGE,
            network=network.name,
            networking_config={network.name: client.api.create_endpoint_config(aliases=["rabbitmq"])},
            entrypoint=list(CERTIFYING.inputs["entrypoints"]),
            command=list(CERTIFYING.inputs["command"]),
            ports={"5671/tcp": ("127.0.0.1", amqp), "15671/tcp": ("127.0.0.1", management)},
        )
        try:
            container.put_archive("/", _files(authority, clients, login))
            container.start()
            found = Broker(authority, clients, network.name, amqp, management, login)
            with found.api() as api:
                answers = lambda: api.get("whoami").status_code == 200  # noqa: E731
                eventually("the broker answers", answers, ignoring=(httpx.HTTPError,))
                for tenant_id in TENANTS:
                    _make(api, topology_of(tenant_id))
            yield found
        finally:
            container.remove(force=True, v=True)
            network.remove()


@pytest.fixture(scope="module")
def balancer(broker: Broker) -> Iterator[int]:
    """The port of a balancer that verifies the broker. There is none for another CA: the node stays down."""
    port = free_port()

    def program() -> None:
        args = BalancerArgs(
            settings=BalancerSettings(image="haproxy:3.2", port=port),
            network=pulumi_docker.Network("broker", name=broker.network),
            nodes=[NodeInside(name="rabbitmq", host="rabbitmq", amqp_port=5671, management_port=15671)],
            address="127.0.0.1",
            advertised_host="127.0.0.1",
            tls=True,
            trust=broker.authority.certificate,
        )
        Balancer("balancer", args)

    (inputs,) = registered(program).of(_CONTAINER).values()
    containers = provider("docker", {}).handler(_CONTAINER)
    checked = containers.check(None, from_struct(to_struct({**inputs, "name": f"{broker.network}-balancer"})))
    id, outputs = containers.create(checked)
    try:
        yield port
    finally:
        containers.delete(id, checked, outputs)


def _files(authority: Authority, clients: Authority, login: tuple[str, str]) -> bytes:
    name, password = login
    files = {
        "/etc/rabbitmq/rabbitmq.conf": CERTIFYING.configuration.replace(
            "load_definitions = /etc/rabbitmq/definitions.json\n", f"default_user = {name}\ndefault_pass = {password}\n"
        ),
        **{f"/etc/rabbitmq/{file}": text for file, text in CERTIFYING.more_files.items()},
        "/tls/server.pem": authority.issue_server(["rabbitmq", "127.0.0.1"]).pem,
        "/tls/ca.pem": authority.certificate,
        "/tls/clients.pem": clients.certificate,
    }
    return archive({"file": file, "content": text, "executable": False} for file, text in files.items())


def _make(api: httpx.Client, topology: Topology) -> None:
    """Make a tenant's vhost, its user without a password, and the user's permissions."""
    vhost = topology.vhost.replace("/", "%2F")
    rights = {part: getattr(topology.granted, part) for part in ("configure", "write", "read")}
    for path, body in (
        (f"vhosts/{vhost}", {}),
        (f"users/{topology.user}", {"tags": ""}),
        (f"permissions/{vhost}/{topology.user}", rights),
    ):
        api.put(path, json=body).raise_for_status()


async def test_a_tenants_certificate_opens_its_own_vhost_and_no_other(broker: Broker, tmp_path: Path) -> None:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def opened(owner: str, shown: ssl.SSLContext) -> set[str]:
        found = set()
        for other in TENANTS:
            async with limit:
                if await broker.opens(Names(other).vhost, shown):
                    found.add(other)
        return found

    certificates = {each: broker.clients.issue_client(Names(each).user) for each in TENANTS}
    found = await asyncio.gather(*(opened(each, broker.shown(leaf, tmp_path)) for each, leaf in certificates.items()))
    assert dict(zip(TENANTS, found, strict=True)) == {each: {each} for each in TENANTS}


async def test_a_user_with_a_certificate_has_no_password(broker: Broker, tmp_path: Path) -> None:
    names, plain = Names(TENANTS[0]), broker.shown(None, tmp_path)
    for password in ("", names.user, "guessed"):
        assert not await broker.opens(names.vhost, plain, f"{names.user}:{password}", "plain")
    assert not await broker.opens(names.vhost, plain), "nor does it get in without one"
    shown = broker.shown(broker.clients.issue_client(names.user), tmp_path)
    assert not await broker.opens(names.vhost, shown, f"{names.user}:", "plain")


async def test_other_certificates_open_nothing(broker: Broker, tmp_path: Path) -> None:
    names = Names(TENANTS[0])
    foreign = Authority.create("Kryonix test clients' CA 1").issue_client(names.user)  # another key, and the same name
    assert not await broker.opens(names.vhost, broker.shown(foreign, tmp_path))
    of_a_service = broker.authority.issue_server([names.user, "127.0.0.1"])  # its common name is a user's
    assert not await broker.opens(names.vhost, broker.shown(of_a_service, tmp_path))
    expired = broker.clients.issue_client(names.user, days=-0.01)
    assert not await broker.opens(names.vhost, broker.shown(expired, tmp_path))
    stranger = broker.clients.issue_client("kryonix_nobody")
    assert not await broker.opens(names.vhost, broker.shown(stranger, tmp_path))
    assert await broker.opens(names.vhost, broker.shown(broker.clients.issue_client(names.user), tmp_path))


async def test_the_sdk_logs_in_with_what_was_handed_out(broker: Broker, tmp_path: Path) -> None:
    names, leaf = Names(TENANTS[3]), broker.clients.issue_client(Names(TENANTS[3]).user)
    file = tmp_path / "credentials.json"
    handed_out = {
        "amqp_uri": f"amqps://{names.user}@127.0.0.1:{broker.amqp}/{names.vhost.replace('/', '%2F')}",
        "ca_certificate": broker.authority.certificate,
        "client_certificate": leaf.chain,
        "client_key": leaf.key,
        "password": "for figures",
    }
    file.write_text(json.dumps(handed_out))
    file.chmod(0o600)
    async with await MessagingClient.connect(outputs=file) as client:
        await client.ping()
    other = broker.clients.issue_client(Names(TENANTS[4]).user)
    file.write_text(json.dumps({**handed_out, "client_certificate": other.chain, "client_key": other.key}))
    with pytest.raises(MessagingError):
        await MessagingClient.connect(outputs=file)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("foreign", "wrong CA: "), ("expired", "expired, or not yet"), ("self-signed", "self-signed, or broken")],
)
async def test_the_sdk_says_why_a_certificate_is_refused(broker: Broker, tmp_path: Path, fault: str, said: str) -> None:
    names, alone = Names(TENANTS[3]), pair("alone", names=["alone.example"])
    leaves = {
        "foreign": Authority.create("another").issue_client(names.user),
        "expired": broker.clients.issue_client(names.user, days=-0.01),
        "self-signed": Leaf(chain=alone.pem, key=alone.key_pem),
    }
    uri = f"amqps://{names.user}@127.0.0.1:{broker.amqp}/{names.vhost.replace('/', '%2F')}?auth=EXTERNAL"
    with pytest.raises(AccessRefused, match=rf"refuses the client certificate: {said}.*kryonix tenant rotate"):
        await MessagingClient.connect(uri, ssl_context=broker.shown(leaves[fault], tmp_path))


async def test_the_balancer_verifies_the_node_and_passes_certificates_on(
    broker: Broker, balancer: int, tmp_path: Path
) -> None:
    names = Names(TENANTS[5])
    shown = broker.shown(broker.clients.issue_client(names.user), tmp_path)
    assert await broker.opens(names.vhost, shown, port=balancer)
    assert not await broker.opens(Names(TENANTS[6]).vhost, shown, port=balancer)
    assert not await broker.opens(names.vhost, broker.shown(None, tmp_path), port=balancer)


async def test_the_check_of_isolation_shows_the_tenants_certificate(broker: Broker) -> None:
    def declared(tenant_id: str) -> Declared:
        topology = topology_of(tenant_id)
        leaf = broker.clients.issue_client(topology.user)
        return Declared(
            tenant=topology.tenant,
            stack="dev",
            username=topology.user,
            users=(topology.user,),
            protected=False,
            mend="up",
            password="for figures",
            client_certificate=leaf.chain,
            client_key=leaf.key,
        )

    one, other = declared(TENANTS[7]), declared(TENANTS[8])
    vhost = other.tenant.names.vhost
    assert [each.outcome for each in await try_isolation(broker.access, one, other, {})] == ["pass"]
    with broker.api() as api:
        permission = f"permissions/{vhost.replace('/', '%2F')}/{one.username}"
        api.put(permission, json={"configure": "^$", "write": "^$", "read": "^$"}).raise_for_status()
        (found,) = await try_isolation(broker.access, one, other, {})
        api.delete(permission).raise_for_status()
    assert (found.outcome, found.why) == ("fail", f"the credentials of {one.username} open the vhost {vhost} over AMQP")


async def test_passwords_work_beside_certificates(broker: Broker, tmp_path: Path) -> None:
    vhost, plain = Names(TENANTS[1]).vhost, broker.shown(None, tmp_path)
    with broker.api() as api:
        api.put("users/by-password", json={"password": "p", "tags": ""}).raise_for_status()
        rights = {"configure": "", "write": "", "read": ""}
        api.put(f"permissions/{vhost.replace('/', '%2F')}/by-password", json=rights).raise_for_status()
    assert await broker.opens(vhost, plain, "by-password:p", "plain")


async def test_a_rotation_ends_one_generation_and_not_the_other(broker: Broker, tmp_path: Path) -> None:
    names = Names(TENANTS[2])
    topology = topology_of(TENANTS[2])
    first, second = (broker.clients.issue_client(names.user_of(generation)) for generation in (1, 2))
    with broker.api() as api:
        api.put(f"users/{names.user_of(2)}", json={"tags": ""}).raise_for_status()
        rights: dict[str, Any] = {part: getattr(topology.granted, part) for part in ("configure", "write", "read")}
        path = f"permissions/{names.vhost.replace('/', '%2F')}/{names.user_of(2)}"
        api.put(path, content=json.dumps(rights)).raise_for_status()
        for leaf in (first, second):
            assert await broker.opens(names.vhost, broker.shown(leaf, tmp_path)), "both work while they overlap"
        api.delete(f"users/{names.user_of(1)}").raise_for_status()
    assert not await broker.opens(names.vhost, broker.shown(first, tmp_path))
    assert await broker.opens(names.vhost, broker.shown(second, tmp_path))
