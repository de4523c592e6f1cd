"""Stacks made by older versions: nothing is replaced, and since f0fe35a nothing but the registry changes.

The states in tests/fixtures were exported by the version in their folder's name, with the passphrase of the tests.
"""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import docker
import pytest

from kryonix.engines.local.handlers.container import provider
from tests.acceptance.conftest import ENGINES, changed
from tests.support.deployments import concealed, put_state, revealed
from tests.support.project import ROOT, Project, free_port, tenant

PORTS: Final = ("amqpPort", "managementPort", "metricsPort", "registryPort")
FIRST_PORT: Final = {"73c18f4": 19472, "f0fe35a": 19482}
"""The first of the four published ports in the states of each version. A test puts free ones in their place."""

HELD: Final = tenant("held", "portal", plan="basic", status="suspended")
ROTATED: Final = {"generation": 2, "retiring": 1}


@pytest.fixture(scope="module")
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The platform `made-before` with its tenants, and `tenant-own` beside it, as a version left them.

    Their containers run, empty: a preview reads nothing of their content, but the guard asks the broker.
    """
    version = str(request.param)
    newer = version != "73c18f4"
    project = Project(tmp_path_factory.mktemp("before") / "project", "made-before")
    ports = {key: free_port() for key in PORTS}
    project.configure(**ports, brokerMemoryMb=1024)
    project.tenants(tenant("acme", "crm", plan="basic"), *([HELD] if newer else []))
    own = project.beside("tenant-own", tenant=tenant("own", "crm", plan="basic"))
    own.configure(credentials=ROTATED if newer else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", project.env["PULUMI_CONFIG_PASSPHRASE"])
        states = [restore(project, version, stack, ports) for stack in ("made-before", "tenant-own")]
    names = [f"kryonix-changeover-{free_port()}" for _ in ("rabbitmq", "postgres")]
    client = docker.from_env()
    try:
        run_containers(states[0], names)
        yield project
    finally:
        for name in names:
            for container in client.containers.list(all=True, ignore_removed=True, filters={"name": name}):
                container.remove(force=True, v=True)
        client.close()


def restore(project: Project, version: str, stack: str, ports: dict[str, int]) -> list[dict[str, Any]]:
    """Make a state from the fixture, on other ports, and return its resources with secrets in plain."""
    with gzip.open(ROOT / "tests" / "fixtures" / f"made_by_{version}" / f"{stack}.json.gz", "rt") as packed:
        text = json.dumps(revealed(json.load(packed)))
    for port, key in enumerate(PORTS, FIRST_PORT[version]):
        text = text.replace(str(port), str(ports[key]))
    put_state(project.folder, stack, concealed(json.loads(text)))
    resources: list[dict[str, Any]] = json.loads(text)["deployment"]["resources"]
    return resources


def run_containers(resources: list[dict[str, Any]], names: list[str]) -> None:
    made_as = "docker:index/container:Container"
    containers = [plain(entry["inputs"]) for entry in resources if entry["type"] == made_as]
    table = provider({})
    for name, inputs in zip(names, containers, strict=True):
        alone = {**inputs, "name": name, "hostname": name, "networksAdvanced": [], "volumes": []}
        table.handler(made_as).create(alone)
    table.close()


def plain(value: Any) -> Any:
    """A value of an export with its secrets in plain."""
    if isinstance(value, dict):
        return json.loads(value["plaintext"]) if "plaintext" in value else {k: plain(v) for k, v in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, before: Project, tmp_path: Path) -> str:
    """The engine that previews; the real CLI takes both states over first."""
    if request.param == "pulumi":
        backend = tmp_path / "backend"
        backend.mkdir()
        before.env["PULUMI_BACKEND_URL"] = f"file://{backend}"
        if not (before.folder / ".venv").exists():
            (before.folder / ".venv").symlink_to(ROOT / ".venv")
        for stack in ("made-before", "tenant-own"):
            take_over(before, stack)
    return str(request.param)


def take_over(project: Project, stack: str) -> None:
    exported = project.kryonix("export", "--stack", stack, "--engine", "local").stdout
    project.write("deployment.json", exported)
    for arguments in (["init"], ["import", "--file", "deployment.json"]):
        named = ["--stack", stack] if arguments[0] == "import" else [stack]
        subprocess.run(
            ["pulumi", "stack", *arguments, *named, "--non-interactive"],
            cwd=project.folder,
            env=project.env,
            check=True,
            capture_output=True,
        )


def preview(project: Project, stack: str, engine: str) -> tuple[list[str], str]:
    result = project.kryonix("preview", "--stack", stack, "--engine", engine, "--json")
    assert result.returncode == 0, (result.stdout, result.stderr)
    return changed(json.loads(result.stdout)), result.stderr


older = pytest.mark.parametrize("before", ["73c18f4"], indirect=True)
newer = pytest.mark.parametrize("before", ["f0fe35a"], indirect=True)


@newer
def test_stacks_of_an_older_version_preview_only_the_registry(before: Project, engine: str) -> None:
    changes = ["update platform-registry-migrator", "update platform-registry-migrations"]
    assert preview(before, "made-before", engine)[0] == changes
    assert preview(before, "tenant-own", engine)[0] == []


@older
@pytest.mark.parametrize("config", [{}, {"domain": "example.com", "brokerMemoryMb": 1536, "metricsPort": 19476}])
def test_a_platform_of_an_older_version_upgrades_in_place(before: Project, engine: str, config: dict[str, Any]) -> None:
    kept = {"domain": None, "brokerMemoryMb": 1024}
    before.configure(**config)
    try:
        changes, said = preview(before, "made-before", engine)
    finally:
        before.configure(**kept, metricsPort=free_port())
    assert [change for change in changes if not change.startswith(("update ", "create "))] == []
    assert "update platform-rabbitmq-container" not in changes
    assert "an older version made this stack" in said


@older
def test_a_tenant_stack_of_an_older_version_upgrades_in_place(before: Project, engine: str) -> None:
    changes, _ = preview(before, "tenant-own", engine)
    assert [change for change in changes if not change.startswith(("update ", "create "))] == []
