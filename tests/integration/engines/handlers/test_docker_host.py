"""Docker handlers against a daemon of another host, with mutual TLS and by SSH."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from kryonix.certificates.authority import Authority
from kryonix.engines.local.errors import ServiceUnavailable
from kryonix.engines.local.handlers import provider
from tests.support.containers import output_of
from tests.support.docker_hosts import DockerHosts, docker_hosts

from .conftest import POSTGRES_IMAGE

TYPE = "docker:index/container:Container"


@pytest.fixture(scope="module")
def hosts() -> Iterator[DockerHosts]:
    with docker_hosts(POSTGRES_IMAGE, count=1) as found:
        yield found


def test_a_container_runs_on_its_host_and_knows_other_hosts_by_name(
    hosts: DockerHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(hosts.certificates))
    opened, name = provider("docker", {"host": hosts[0].docker}), f"other-{secrets.token_hex(3)}"
    handler = opened.handler(TYPE)
    sleeping = {"name": name, "image": POSTGRES_IMAGE, "entrypoints": ["sleep"], "command": ["600"]}
    inputs = handler.check(None, {**sleeping, "hosts": [{"host": "node-2", "ip": "198.51.100.2"}]})
    id, outputs = handler.create(inputs)
    try:
        with hosts[0].client() as client:
            (found,) = client.containers.list()
            assert (found.id, found.name) == (id, name)
            assert "198.51.100.2" in output_of(found, "getent", "hosts", "node-2")
        assert handler.diff(id, inputs, outputs, inputs).changed == ()
        moved = handler.check(None, {**sleeping, "hosts": [{"host": "node-2", "ip": "198.51.100.3"}]})
        assert handler.diff(id, inputs, outputs, moved).replaces == ("hosts",)
    finally:
        handler.delete(id, inputs, outputs)
        opened.close()


def test_a_daemon_of_another_ca_is_not_trusted(
    hosts: DockerHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("cert.pem", "key.pem"):
        os.link(hosts.certificates / file, tmp_path / file)
    (tmp_path / "ca.pem").write_text(Authority.create("another").certificate)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(ServiceUnavailable, match=f"docker can't be reached at {hosts[0].docker}.*verify failed"):
        provider("docker", {"host": hosts[0].docker}).handler("docker:index/volume:Volume").read(
            "any", {"name": "x"}, {}
        )


def test_missing_certificates_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(ServiceUnavailable, match=f"DOCKER_CERT_PATH, {tmp_path}, lacks ca.pem, cert.pem or key.pem"):
        provider("docker", {"host": "tcp://198.51.100.9:2376"}).handler(TYPE).read("any", {"name": "x"}, {})
