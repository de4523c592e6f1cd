"""Every command reports a stopped service with a remedy that works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.project import Project, tenant
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
    client = docker.from_env()
    name = f"kryonix-{stopped.stack}-{service}"
    getattr(client.containers.get(name), how)()
    try:
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
    finally:
        client.close()
