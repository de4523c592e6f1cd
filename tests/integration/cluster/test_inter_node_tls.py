"""TLS between the broker's nodes: who gets in, and what a renewal and a new CA take. Figures of RabbitMQ 4.3.6."""

from __future__ import annotations

import io
import secrets
import socket
import ssl
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import pytest

from components.inter_node_tls import ENVIRONMENT, UPLOADS
from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.served import served
from tests.support.containers import output_of
from tests.support.waiting import eventually

_IMAGE: Final = "rabbitmq:4.3.6-management"
_RABBITMQ: Final = 101
"""The user in the image."""
_NODES: Final = ("one", "two")
_CONFIG: Final = """
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /tls/clients.pem
ssl_options.certfile = /tls/server.pem
ssl_options.keyfile = /tls/server.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = rabbit@one
cluster_formation.classic_config.nodes.2 = rabbit@two
"""
_PING: Final = "io:format(\"~p~n\", [net_adm:ping('rabbit@one')]), halt()."
_SERVES: Final = "rabbit:is_running()."
CA, OTHER_CA = Authority.create("Kryonix of a test"), Authority.create("another of a test")
BOTH: Final = CA.certificate + OTHER_CA.certificate
CLIENTS, OTHER_CLIENTS = Authority.create("clients of a test"), Authority.create("other clients of a test")
OF_CLIENTS: Final = {
    CA.certificate: CLIENTS.certificate,
    OTHER_CA.certificate: OTHER_CLIENTS.certificate,
    BOTH: CLIENTS.certificate + OTHER_CLIENTS.certificate,
}
"""The CAs of clients, by those of nodes that are trusted at the same time."""


@dataclass(frozen=True)
class Nodes:
    """The containers of two nodes that make a cluster by TLS, and of a stranger on their network, with their cookie."""

    nodes: Mapping[str, Any]
    stranger: Any

    def asks(self, leaf: Leaf, trust: str = CA.certificate, *, tls: bool = True) -> bool:
        """Return True if the stranger gets into the first node with this certificate."""
        self.stranger.put_archive("/", _archive(_files(leaf, trust)))
        speaking = ENVIRONMENT["RABBITMQ_CTL_ERL_ARGS"].split() if tls else []
        command = ["erl", "-noinput", "-sname", "probe", *speaking, "-eval", _PING]
        answer = output_of(self.stranger, *command, user="rabbitmq", env={"HOME": "/var/lib/rabbitmq"})
        return answer.split()[-1] == "pong"

    def put(self, node: str, leaf: Leaf, trust: str = CA.certificate) -> None:
        """Put a certificate into a node's folder as the keeper does: by a rename, and then the date."""
        files = {f"{path}.new": text for path, text in _files(leaf, trust).items() if path.startswith("tls/")}
        self.nodes[node].put_archive("/", _archive(files))
        for path in files:
            file = f"/{path.removesuffix('.new')}"
            assert self.nodes[node].exec_run(["sh", "-c", f"mv {file}.new {file} && touch {file}"]).exit_code == 0

    def ctl(self, node: str, *command: str) -> str:
        """Run rabbitmqctl in a node's container; empty where it fails."""
        with suppress(AssertionError):
            return output_of(self.nodes[node], "rabbitmqctl", "-q", *command, user="rabbitmq")
        return ""

    def address(self, node: str) -> str:
        self.nodes[node].reload()
        (network,) = self.nodes[node].attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def serial(self, node: str, port: int) -> int:
        return served(self.address(node), port).serial


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running() as found:
        yield found


@contextmanager
def running() -> Iterator[Nodes]:
    name, made = f"kryonix-dist-{secrets.token_hex(4)}", {}
    with closing(docker.from_env()) as client:
        network = client.networks.create(name)
        try:
            for host in (*_NODES, "stranger"):
                node = made[host] = client.containers.create(
                    _IMAGE,
                    ["sleep", "infinity"] if host == "stranger" else None,
                    name=f"{name}-{host}",
                    hostname=host,
                    network=name,
                    networking_config={name: client.api.create_endpoint_config(aliases=[host])},
                    environment=ENVIRONMENT,
                )
                files = _files(CA.issue_server([host]), CA.certificate) | {"var/lib/rabbitmq/.erlang.cookie": name}
                node.put_archive("/", _archive(files | {"etc/rabbitmq/rabbitmq.conf": _CONFIG}))
                node.start()
            found = Nodes({host: made[host] for host in _NODES}, made["stranger"])
            eventually("the nodes find each other", lambda: "rabbit@two" in found.ctl("one", "eval", "nodes()."))
            eventually("both serve", lambda: all("true" in found.ctl(node, "eval", _SERVES) for node in _NODES))
            yield found
        finally:
            for node in made.values():
                node.remove(force=True, v=True)
            network.remove()


def test_the_nodes_are_one_cluster_and_speak_tls_only(nodes: Nodes) -> None:
    status = nodes.ctl("one", "cluster_status")
    assert "rabbit@two" in status.partition("Running Nodes")[2]
    assert status.count("clustering/ssl") == 2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_the_nodes_speak_tls_1_2_and_1_3(nodes: Nodes, tmp_path: Path) -> None:
    versions = {"TLSv1_1": False, "TLSv1_2": True, "TLSv1_3": True}
    context = _context(CA.issue_server(["stranger"]), tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, spoken in versions.items():
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = context.minimum_version = ssl.TLSVersion[name]
        assert _shakes(nodes.address("one"), context) == spoken, name


def test_a_node_of_the_same_ca_gets_in(nodes: Nodes) -> None:
    assert nodes.asks(CA.issue_server(["stranger"]))


@pytest.mark.parametrize(
    ("leaf", "trust"),
    [
        (OTHER_CA.issue_server(["stranger"]), BOTH),
        (CA.issue_server(["stranger"], days=-0.01), CA.certificate),
        (CA.issue_server(["stranger"]), OTHER_CA.certificate),
        (CLIENTS.issue_client("kryonix_acme"), CA.certificate),
    ],
    ids=["of another CA", "expired", "that trusts another CA", "of a tenant"],
)
def test_a_stranger_with_the_cookie_stays_out(nodes: Nodes, leaf: Leaf, trust: str) -> None:
    assert not nodes.asks(leaf, trust)


def test_a_nodes_certificate_is_no_clients(nodes: Nodes, tmp_path: Path) -> None:
    assert _gets_in(nodes, CLIENTS.issue_client("kryonix_acme"), tmp_path)
    assert not _gets_in(nodes, CA.issue_server(["one"]), tmp_path)


def test_plain_connections_stay_out(nodes: Nodes) -> None:
    assert not nodes.asks(CA.issue_server(["stranger"]), tls=False)


def test_a_renewed_certificate_is_served_at_once_and_ends_no_connection(nodes: Nodes) -> None:
    connected, leaf = nodes.ctl("two", "eval", "nodes()."), CA.issue_server(["one"])
    nodes.put("one", leaf)
    since = time.monotonic()
    eventually("both ports serve it", lambda: {nodes.serial("one", port) for port in (25672, 5671)} == {leaf.serial})
    assert time.monotonic() - since < 60, "Erlang's own interval is two minutes"
    assert nodes.ctl("two", "eval", "nodes().") == connected
    assert nodes.asks(CA.issue_server(["stranger"]))


def test_a_node_with_another_hosts_certificate_is_refused(nodes: Nodes) -> None:
    leaf = CA.issue_server(["elsewhere"])
    nodes.put("one", leaf)
    eventually("it is served", lambda: nodes.serial("one", 25672) == leaf.serial)
    assert not nodes.asks(CA.issue_server(["stranger"]))
    nodes.put("one", CA.issue_server(["one"]))
    eventually("its own is served", lambda: nodes.asks(CA.issue_server(["stranger"])))


def test_a_ca_is_changed_without_a_restart(nodes: Nodes, tmp_path: Path) -> None:
    theirs = OTHER_CA.issue_server(["stranger"])
    with _opened(nodes.address("one"), CLIENTS.issue_client("first"), tmp_path):
        for node in _NODES:
            nodes.put(node, CA.issue_server([node]), BOTH)
        eventually("the nodes trust both", lambda: nodes.asks(theirs, BOTH))
        eventually("so do clients' listeners", lambda: _gets_in(nodes, OTHER_CLIENTS.issue_client("next"), tmp_path))
        for node in _NODES:
            nodes.put(node, OTHER_CA.issue_server([node]), BOTH)
        assert nodes.asks(CA.issue_server(["stranger"]), BOTH)
        for node in _NODES:
            nodes.put(node, OTHER_CA.issue_server([node]), OTHER_CA.certificate)
        eventually("the old one is refused", lambda: not nodes.asks(CA.issue_server(["stranger"]), BOTH))
        eventually("by listeners too", lambda: not _gets_in(nodes, CLIENTS.issue_client("first"), tmp_path))
    again = "erlang:disconnect_node('rabbit@one'), timer:sleep(500), net_adm:ping('rabbit@one')."
    eventually("the nodes find each other again", lambda: "pong" in nodes.ctl("two", "eval", again))


def _shakes(address: str, context: ssl.SSLContext) -> bool:
    try:
        with socket.create_connection((address, 25672)) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError:
        return False


def _gets_in(nodes: Nodes, leaf: Leaf, folder: Path) -> bool:
    try:
        with _opened(nodes.address("one"), leaf, folder):
            return True
    except (OSError, AssertionError):
        return False


@contextmanager
def _opened(address: str, leaf: Leaf, folder: Path) -> Iterator[None]:
    """Hold a client's connection open, which the broker has accepted by its certificate."""
    context = _context(leaf, folder)
    with socket.create_connection((address, 5671)) as plain, context.wrap_socket(plain) as secured:
        secured.sendall(b"AMQP\x00\x00\x09\x01")
        assert secured.recv(1), "the broker closes the connection"
        yield


def _context(leaf: Leaf, folder: Path) -> ssl.SSLContext:
    """Return a client that shows this certificate. It verifies nothing: the test looks at what the broker accepts."""
    file = folder / "client.pem"
    file.write_text(leaf.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(file)
    return context


def _files(leaf: Leaf, trust: str) -> dict[str, str]:
    files = {f"etc/rabbitmq/{name}": text for name, text in UPLOADS.items()}
    return files | {"tls/ca.pem": trust, "tls/clients.pem": OF_CLIENTS[trust], "tls/server.pem": leaf.pem}


def _archive(files: Mapping[str, str]) -> bytes:
    """Return files of the broker's user. A time is part of what they are: Erlang looks for changes by it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(text.encode()), 0o400, int(time.time())
            entry.uid = entry.gid = _RABBITMQ
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
