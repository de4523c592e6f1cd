"""RabbitMQ and PostgreSQL containers on free ports. Without Docker the tests fail."""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import httpx
import psycopg
import pytest

from kryonix.engines.local.handlers import Provider, provider
from tests.support.project import free_port
from tests.support.waiting import eventually

BROKER_IMAGE = os.environ.get("KRYONIX_TEST_BROKER_IMAGE", "rabbitmq:4.3.6-management")
POSTGRES_IMAGE = os.environ.get("KRYONIX_TEST_POSTGRES_IMAGE", "postgres:17")
PASSWORD = secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Broker:
    endpoint: str
    api: httpx.Client

    def provider(self, **changed: Any) -> Provider:
        config = {"endpoint": self.endpoint, "username": "guest", "password": "guest", **changed}
        return provider("rabbitmq", config)


@dataclass(frozen=True)
class Postgres:
    port: int

    def settings(self, **changed: Any) -> dict[str, Any]:
        login = {"host": "127.0.0.1", "port": str(self.port), "username": "admin", "password": PASSWORD}
        return {**login, "sslmode": "disable", **changed}

    def connect(self, database: str = "postgres", user: str = "admin", password: str = PASSWORD) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password, autocommit=True
        )


def _files(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def daemon() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def broker(daemon: docker.DockerClient) -> Iterator[Broker]:
    port = free_port()
    container = daemon.containers.create(
        BROKER_IMAGE, hostname="kryonix-test", ports={"15672/tcp": ("127.0.0.1", port)}, labels={"kryonix.test": "1"}
    )
    config = {"rabbitmq.conf": "loopback_users = none\n", "enabled_plugins": "[rabbitmq_management].\n"}
    try:
        container.put_archive("/etc/rabbitmq", _files(config))
        container.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("guest", "guest"), timeout=30) as api:
            away = (httpx.TransportError,)
            eventually("RabbitMQ answers", lambda: api.get("/api/overview").is_success, ignoring=away)
            yield Broker(f"http://127.0.0.1:{port}", api)
    finally:
        container.remove(force=True, v=True)


@pytest.fixture(scope="session")
def postgres(daemon: docker.DockerClient) -> Iterator[Postgres]:
    server = Postgres(free_port())
    environment = {"POSTGRES_USER": "admin", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "postgres"}
    container = daemon.containers.run(
        POSTGRES_IMAGE,
        ["-c", "fsync=off"],
        detach=True,
        environment=environment,
        ports={"5432/tcp": ("127.0.0.1", server.port)},
        labels={"kryonix.test": "1"},
    )
    try:
        eventually("PostgreSQL accepts connections", server.connect, ignoring=(psycopg.OperationalError,)).close()
        yield server
    finally:
        container.remove(force=True, v=True)


@pytest.fixture
def unique() -> str:
    """A name no other test uses."""
    return f"t{secrets.token_hex(4)}"
