"""A RabbitMQ and a PostgreSQL with TLS, which wait for their certificates in folders of this machine.

Their folders belong to their users, so whoever places certificates here has to be root, as the keeper is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg

from components.inter_node_tls import REREAD
from kryonix.certificates.authority import Authority
from kryonix.certificates.keeper import Keeper, PlaceStatus
from kryonix.certificates.placement import SERVER
from kryonix.certificates.places import read_keeper_file
from tests.support.waiting import eventually

HOST = "127.0.0.1"
NAMES = ["127.0.0.1", "localhost"]
PASSWORD = "a-test-password"
CLIENTS_CA = Authority.create("Kryonix test clients' CA 1")
_WAITS = f'chown {{user}}: /tls && until test -s /tls/{SERVER}; do sleep 0.2; done; exec docker-entrypoint.sh "$@"'
_BROKER = """
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /tls/ca.pem
ssl_options.certfile = /tls/server.pem
ssl_options.keyfile = /tls/server.pem
ssl_options.verify = verify_none
management.ssl.port = 15671
management.ssl.cacertfile = /tls/ca.pem
management.ssl.certfile = /tls/server.pem
management.ssl.keyfile = /tls/server.pem
prometheus.ssl.port = 15691
prometheus.ssl.cacertfile = /tls/ca.pem
prometheus.ssl.certfile = /tls/server.pem
prometheus.ssl.keyfile = /tls/server.pem
default_user = admin
default_pass = a-test-password
loopback_users = none
"""
_POSTGRES = {"ssl": "on", "ssl_cert_file": "/tls/server.pem", "ssl_key_file": "/tls/server.pem"}


@dataclass(frozen=True, kw_only=True)
class TlsServices:
    """Both services: the folder with their certificates, and their ports on this machine."""

    folder: Path
    ports: Mapping[str, int]

    def keeper_file(
        self,
        trusted: Sequence[Authority],
        issuing: Authority,
        clients: Sequence[Authority] = (CLIENTS_CA,),
        **more: Any,
    ) -> Path:
        """Write the keeper's file and return it. `clients` are the CAs of clients' certificates."""
        document = {
            "authorities": {
                "issuing": {"certificate": issuing.certificate, "key": issuing.key},
                "trusted": "".join(each.certificate for each in trusted),
                "clients": "".join(each.certificate for each in clients),
            },
            "places": [
                self._place("rabbitmq", self.ports["amqps"]),
                self._place("postgres", self.ports["postgres"], starttls="postgres"),
            ],
            "registry_dsn": f"postgresql://keeper:{PASSWORD}@{HOST}:{self.ports['postgres']}/postgres",
            **more,
        }
        file = self.folder / "certificates.json"
        file.write_text(json.dumps(document))
        return file

    def _place(self, role: str, port: int, starttls: str = "") -> dict[str, Any]:
        folder = str(self.folder / role)
        return {"role": role, "folder": folder, "names": NAMES, "endpoint": f"{HOST}:{port}", "starttls": starttls}

    def round(self, file: Path, *, force: bool = False) -> list[PlaceStatus]:
        """Run one round of a keeper that has just been started, and return how its places are."""
        return Keeper(read_keeper_file(file), self.folder).round(force=force, patience=120)

    def connect(self, trust: Path) -> psycopg.Connection[Any]:
        """Return a verified connection to PostgreSQL as its administrator."""
        login = f"host={HOST} port={self.ports['postgres']} user=postgres password={PASSWORD} connect_timeout=20"
        return psycopg.connect(f"{login} sslmode=verify-full sslrootcert={trust}", autocommit=True)


@contextmanager
def tls_services(folder: Path, broker_image: str, postgres_image: str) -> Iterator[TlsServices]:
    """Start both, which then wait for their certificates."""
    configuration = folder / "configuration"
    configuration.mkdir()
    (configuration / "10-tls.conf").write_text(_BROKER)
    binds = {str(configuration / "10-tls.conf"): {"bind": "/etc/rabbitmq/conf.d/10-tls.conf", "mode": "ro"}}
    settings = [part for name, value in _POSTGRES.items() for part in ("-c", f"{name}={value}")]
    with ExitStack() as stack:
        client = docker.from_env()
        stack.callback(client.close)
        rabbitmq = ["rabbitmq", "rabbitmq-server"]
        broker = stack.enter_context(_running(client, folder / "rabbitmq", broker_image, rabbitmq, binds))
        server = ["postgres", "postgres", *settings]
        postgres = stack.enter_context(_running(client, folder / "postgres", postgres_image, server, {}))
        ports = {
            "amqps": _port(broker, 5671),
            "management": _port(broker, 15671),
            "metrics": _port(broker, 15691),
            "postgres": _port(postgres, 5432),
        }
        yield TlsServices(folder=folder, ports=ports)


@contextmanager
def _running(client: Any, folder: Path, image: str, command: Sequence[str], binds: Mapping[str, Any]) -> Iterator[Any]:
    """Run a service as the platform does: it takes its folder, and waits for its certificate. A user comes first."""
    folder.mkdir()
    user, *server = command
    container = client.containers.run(
        image,
        ["sh", "-c", _WAITS.format(user=user), "--", *server],
        entrypoint="",
        user="root",
        environment={"POSTGRES_PASSWORD": PASSWORD, "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": REREAD},
        volumes={str(folder): {"bind": "/tls", "mode": "rw"}, **binds},
        ports={f"{port}/tcp": (HOST, None) for port in (5671, 15671, 15691, 5432)},
        detach=True,
    )
    try:
        eventually(f"{folder} is taken", lambda: folder.stat().st_uid)
        yield container
    finally:
        container.remove(force=True, v=True)


def _port(container: Any, port: int) -> int:
    def look() -> int:
        container.reload()
        return int((container.ports.get(f"{port}/tcp") or [{"HostPort": 0}])[0]["HostPort"])

    return eventually(f"the port of {port}", look)
