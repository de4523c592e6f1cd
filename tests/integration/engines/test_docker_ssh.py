"""Docker on another machine by `ssh`: a real SSH server, whose machine is this one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kryonix.cluster.nodes import RecordedNode
from kryonix.engines.containers import run_inside
from kryonix.engines.docker_client import docker_client
from kryonix.engines.docker_ssh import SshFailed
from kryonix.engines.local.errors import ServiceUnavailable
from kryonix.engines.local.handlers import provider
from kryonix.errors import ServiceUnreachable
from tests.support.ssh import SshServer, ssh_server

FAR = "ssh://far"
IMAGE = "postgres:17"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def server(running: SshServer, monkeypatch: pytest.MonkeyPatch) -> SshServer:
    monkeypatch.setenv("PATH", running.programs, prepend=":")
    running.authorize()
    running.know()
    return running


def test_handlers_and_commands_reach_docker_by_ssh(server: SshServer) -> None:
    unique = f"t{secrets.token_hex(4)}"
    opened = provider("docker", {"host": FAR})
    handler = opened.handler("docker:index/container:Container")
    upload = {"file": "/tmp/note", "content": "written over there"}
    wanted = {"name": unique, "image": IMAGE, "entrypoints": ["sleep"], "command": ["600"], "uploads": [upload]}
    inputs = handler.check(None, wanted)
    id, outputs = handler.create(inputs)
    try:
        assert handler.read(id, inputs, outputs) is not None
        with closing(docker_client(FAR, 60)) as client:
            assert id in [each["Id"] for each in client.containers()]
            run = client.exec_create(id, ["sh", "-c", "cat /tmp/note; echo no >&2; exit 3"])["Id"]
            assert client.exec_start(run, demux=True) == (b"written over there", b"no\n")
            assert client.exec_inspect(run)["ExitCode"] == 3
        assert run_inside(unique, ["cat", "/tmp/note"], FAR) == (0, "written over there", "")
    finally:
        handler.delete(id, inputs, outputs)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (SshServer.refuse, "it accepts none of your keys. Name the right one in ~/.ssh/config"),
        (SshServer.forget, "its key is not in known_hosts. Connect once by hand"),
        (lambda server: server.know("client"), "its key is not the one in known_hosts. If the machine was replaced"),
        (lambda server: server.authorize("PATH=/nowhere"), "no program `docker` there. Install Docker"),
        (lambda server: server.authorize("export DOCKER_HOST=unix:///nowhere"), "its Docker daemon does not run"),
    ],
    ids=["key", "unknown-host", "changed-host", "no-docker", "no-daemon"],
)
def test_a_machine_that_ssh_does_not_reach_is_explained(
    server: SshServer, spoil: Callable[[SshServer], None], told: str
) -> None:
    spoil(server)
    with pytest.raises(SshFailed, match=r"Until `ssh -- far docker version` works, this can't: \S") as caught:
        docker_client(FAR, 60)
    assert told in str(caught.value)


def test_each_way_to_docker_passes_the_reason_on(server: SshServer) -> None:
    server.refuse()
    told = "it accepts none of your keys"
    node = RecordedNode(number=1, name="rabbit@one", container="one", docker=FAR)
    with pytest.raises(ServiceUnreachable, match=told):
        node.run(["true"])
    with pytest.raises(ServiceUnreachable, match=told):
        run_inside("one", ["true"], FAR)
    with pytest.raises(ServiceUnavailable, match=told):
        provider("docker", {"host": FAR}).handler("docker:index/volume:Volume").read("one", {"name": "one"}, {})


def test_without_the_program_ssh_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SshFailed, match="Install OpenSSH's client"):
        docker_client(FAR, 5)
