"""The real CLI takes over stacks of the local engine, and creates the same stacks itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Project, tenant

pytestmark = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="these run the real CLI, and there is no `pulumi` on PATH"
)


class Cli:
    """The `pulumi` command in a project's folder, with a file backend of its own."""

    def __init__(self, project: Project, backend: Path) -> None:
        backend.mkdir()
        self._project = project
        self._env = {**project.env, "PULUMI_BACKEND_URL": f"file://{backend}", "PULUMI_SKIP_UPDATE_CHECK": "true"}

    def __call__(self, *arguments: str) -> str:
        result = subprocess.run(
            ["pulumi", *arguments, "--stack", self._project.stack, "--non-interactive"],
            cwd=self._project.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, f"pulumi {arguments} failed:\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def init(self) -> None:
        subprocess.run(
            ["pulumi", "stack", "init", self._project.stack, "--non-interactive"],
            cwd=self._project.folder,
            env=self._env,
            check=True,
            capture_output=True,
        )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project.platform(tmp_path / "project", tenant("acme", "crm", plan="basic"))
    (project.folder / ".venv").symlink_to(Path(__file__).parents[2] / ".venv")
    try:
        yield project
    finally:
        project.remove()


def resources(exported: dict[str, Any]) -> set[str]:
    """URNs of everything the program asked for; default providers carry versions and are the engines' own business."""
    entries = exported["deployment"]["resources"]
    return {entry["urn"] for entry in entries if "pulumi:providers:" not in entry["urn"]}


def test_the_cli_takes_over_a_local_stack_without_a_change(project: Project, tmp_path: Path) -> None:
    project.must("up")
    project.write("deployment.json", project.run("export").stdout)
    pulumi = Cli(project, tmp_path / "backend")
    pulumi.init()
    pulumi("stack", "import", "--file", "deployment.json")
    steps = json.loads(pulumi("preview", "--json"))["steps"]
    assert {step["op"] for step in steps} == {"same"}, [s["urn"] for s in steps if s["op"] != "same"]


def test_the_cli_and_the_local_engine_create_the_same_stack(project: Project, tmp_path: Path) -> None:
    pulumi = Cli(project, tmp_path / "backend")
    pulumi.init()
    pulumi("up", "--yes", "--skip-preview")
    made = json.loads(pulumi("stack", "export"))
    outputs = json.loads(pulumi("stack", "output", "--json"))
    pulumi("destroy", "--yes", "--skip-preview")
    project.must("up")
    assert resources(made) == resources(json.loads(project.run("export").stdout))
    assert outputs.keys() == project.outputs().keys()


def test_the_command_runs_the_cli_found_on_path(project: Project, tmp_path: Path) -> None:
    project.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    (tmp_path / "backend").mkdir()
    made = project.kryonix("up", "--stack", project.stack, "--yes", "--json", timeout=600)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["changes"]["create"] > 80
    again = project.kryonix("preview", "--stack", project.stack, "--json", timeout=600)
    assert set(json.loads(again.stdout)["changes"]) <= {"same", "read"}
    checked = project.kryonix("check", "--stack", project.stack, timeout=600)
    assert checked.returncode == 0, checked.stdout
    (listed,) = json.loads(project.kryonix("status", "--stack", project.stack, "--json", timeout=600).stdout)["tenants"]
    assert (listed["id"], listed["managed_by"]) == ("acme", "tenants.yaml")
    assert not (project.folder / ".kryonix").exists()
    destroyed = project.kryonix("destroy", "--stack", project.stack, "--yes", timeout=600)
    assert destroyed.returncode == 0, destroyed.stderr


def test_the_cli_does_not_recreate_a_local_stack(project: Project, tmp_path: Path) -> None:
    project.must("up")
    project.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    (tmp_path / "backend").mkdir()
    for operation in ("preview", "up", "refresh", "destroy", "outputs", "export", "status"):
        yes = ["--yes"] if operation in ("up", "refresh", "destroy") else []
        refused = project.kryonix(operation, "--stack", project.stack, *yes)
        assert refused.returncode == 2, (operation, refused.stdout, refused.stderr)
        assert f"kryonix export --stack {project.stack} --engine local > deployment.json" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert list((tmp_path / "backend").rglob(f"{project.stack}.json")) == []


def test_reading_an_unknown_stack_does_not_create_it(project: Project, tmp_path: Path) -> None:
    project.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    (tmp_path / "backend").mkdir()
    assert json.loads(project.kryonix("outputs", "--stack", project.stack, "--json").stdout) == {}
    unknown = project.kryonix("export", "--stack", project.stack)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert f"Create it: `kryonix up --stack {project.stack}`" in unknown.stderr
    assert list((tmp_path / "backend").rglob(f"{project.stack}.json")) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"amqpPrt": 5672}, "kryonix:amqpPrt: not a config key of this project; did you mean 'kryonix:amqpPort'?"),
        ({"amqpPort": 0}, "kryonix:amqpPort: 0 is not a valid port"),
        ({"amqpPort": "many"}, "'amqpPort' must be of type 'integer'"),
        ({"amqpPort": 7000, "managementPort": 7000}, "two of these are the same port"),
        ({"catalogFile": "tenants.yaml"}, "tenants.yaml:1: "),
        ({"tenant": tenant("acme", "crm")}, "has to know its platform"),
        ({"tenantsFile": "none.yaml"}, "kryonix:tenantsFile: 'none.yaml' can't be read"),
    ],
)
def test_invalid_config_is_refused_with_the_cli(
    project: Project, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    project.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    (tmp_path / "backend").mkdir()
    project.configure(**config)
    result = project.kryonix("preview", "--stack", project.stack, "--engine", "pulumi")
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert said in result.stderr
    assert "an unhandled error" not in result.stderr


def test_the_cli_grows_and_rolls_nodes_with_tls(project: Project, tmp_path: Path) -> None:
    project.configure(brokerNodes=1, brokerMemoryMb=512, tls="true")
    pulumi = Cli(project, tmp_path / "backend")
    project.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    pulumi.init()
    pulumi("up", "--yes", "--skip-preview")
    grown = project.kryonix("cluster", "grow", "--stack", project.stack, "--nodes", "3", "--yes", timeout=900)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    before = json.loads(pulumi("stack", "output", "--json"))
    assert len(before["amqp_addresses"]) == 3
    assert before["ca_certificate"].startswith("-----BEGIN CERTIFICATE-----")
    pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.configure(brokerMemoryMb=640)
    refused = project.kryonix("up", "--stack", project.stack, "--yes", timeout=600)
    assert (refused.returncode, "kryonix cluster roll" in refused.stderr) == (2, True), refused.stderr
    rolled = project.kryonix("cluster", "roll", "--stack", project.stack, "--yes", timeout=900)
    assert rolled.returncode == 0, rolled.stdout + rolled.stderr
    renewed = project.kryonix("certificates", "renew", "--stack", project.stack, timeout=600)
    assert renewed.returncode == 0, renewed.stdout + renewed.stderr
    pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    digests = {node["digest"] for node in before["broker_nodes"]}
    assert digests.isdisjoint(
        node["digest"] for node in json.loads(pulumi("stack", "output", "--json"))["broker_nodes"]
    )
    pulumi("destroy", "--yes", "--skip-preview")
