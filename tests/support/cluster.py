"""A cluster of three brokers in containers, for what a single node can't show."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import docker

from kryonix.rabbitmq.broker import Broker
from tests.support.project import free_port
from tests.support.waiting import eventually

__all__ = ["Cluster", "cluster"]

_IMAGE: Final = "rabbitmq:4.3.6-management"
_FRUGAL: Final = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"


@dataclass(frozen=True)
class Cluster:
    """The containers of the nodes, and the management API of the first."""

    nodes: Sequence[Any]
    broker: Broker

    def has(self, running: int) -> bool:
        """Return True if so many of the nodes run."""
        return sum(self.broker.nodes().values()) == running


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run three nodes in one cluster for the block."""
    name, password, port = f"kryonix-cluster-{secrets.token_hex(4)}", secrets.token_hex(8), free_port()
    with closing(docker.from_env()) as client:
        network = client.networks.create(name)
        nodes: list[Any] = []
        try:
            for host in ("one", "two", "three"):
                node = client.containers.create(
                    _IMAGE,
                    name=f"{name}-{host}",
                    hostname=host,
                    network=name,
                    networking_config={name: client.api.create_endpoint_config(aliases=[host])},
                    ports={"15672/tcp": ("127.0.0.1", port)} if host == "one" else {},
                    environment={
                        "RABBITMQ_DEFAULT_USER": "admin",
                        "RABBITMQ_DEFAULT_PASS": password,
                        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _FRUGAL,
                    },
                )
                nodes.append(node)
                node.put_archive("/var/lib/rabbitmq", _cookie(name))
                node.start()
            eventually("the nodes run", lambda: all(_ctl(node, "await_startup") == 0 for node in nodes))
            for node in nodes[1:]:
                for command in (["stop_app"], ["join_cluster", "rabbit@one"], ["start_app"]):
                    assert _ctl(node, *command) == 0, f"{node.name}: {command}"
            found = Cluster(nodes, Broker(f"http://127.0.0.1:{port}", "admin", password))
            eventually("all nodes are members", lambda: found.has(3))
            yield found
        finally:
            for node in nodes:
                node.remove(force=True, v=True)
            network.remove()


def _ctl(node: Any, *command: str) -> int:
    return int(node.exec_run(["rabbitmqctl", *command]).exit_code)


def _cookie(secret: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(".erlang.cookie")
        entry.size, entry.mode, entry.uid, entry.gid = len(secret), 0o400, 101, 101  # the image's rabbitmq
        tar.addfile(entry, io.BytesIO(secret.encode()))
    return buffer.getvalue()
