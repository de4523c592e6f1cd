"""Every command reports a stopped service with a remedy that works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import docker
import pytest

from tests.support.project import Project, tenant
from tests.support.terminal import Terminal
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of its own, as its services are stopped."""
    project = Project.platform(Path(tmp_path_factory.mktemp("outages")) / "project", tenant("acme"))
    with project.running():
        yield project


@pytest.mark.parametrize("how", ["stop", "pause"])
@pytest.mark.parametrize("service", ["rabbitmq", "postgres"])
def test_every_command_reports_a_stopped_service_with_a_working_remedy(
    stopped: Project, service: str, how: str
) -> None:
    watched = ExitStack()
    client = watched.enter_context(closing(docker.from_env()))
    name = f"kryonix-{stopped.stack}-{service}"
    note = "cell main (figures of" if service == "rabbitmq" else "registry: "
    with watched:
        terminal = None
        if how == "stop":  # a paused broker is noticed after a long timeout only
            command = stopped.command("top", "--stack", stopped.stack, "--engine", "local", "--interval", "1")
            terminal = watched.enter_context(Terminal(command, stopped.folder, stopped.env))
            terminal.shows("acme", without=note)
        getattr(client.containers.get(name), how)()
        if terminal is not None:
            terminal.shows("acme", note)
        heed_the_advice(stopped, client, name, service)
        if terminal is not None:
            terminal.shows("acme", without=note)


def heed_the_advice(stopped: Project, client: docker.DockerClient, name: str, service: str) -> None:
    for operation in ("preview", "up", "refresh"):
        result = stopped.run(operation)
        assert (result.returncode, result.stderr.count("error: ")) == (3, 1), result.stderr
        assert name in result.stderr
    shown = stopped.run("status", "--json")
    assert shown.returncode == 3
    found = json.loads(shown.stdout)
    (acme,) = found["tenants"]
    silent, value = ("broker", acme["queues"]) if service == "rabbitmq" else ("registry", acme["registry"])
    assert found[silent]["reachable"] is False
    assert value is None
    (advice,) = re.findall(r"Run `(docker \w+ [\w-]+)`", shown.stderr)
    subprocess.run(shlex.split(advice), check=True, capture_output=True)
    eventually(f"{name} is healthy", lambda: client.containers.get(name).health == "healthy")
    assert stopped.must("up")["changes"].get("delete", 0) == 0
    assert stopped.run("status").returncode == 0
