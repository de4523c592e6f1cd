"""The CLI and the local engine take over each other's stacks without a change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.local import LocalStack
from tests.support.deployments import put_state

pytestmark = pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH")

PROGRAM = """
import pulumi
import pulumi_random as random
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider


class Provider(ResourceProvider):
    def create(self, props):
        return CreateResult("id-" + props["x"], {**props, "y": 5})

    def diff(self, id, old, new):
        return DiffResult(changes=old["x"] != new["x"])


class Dynamic(Resource):
    y: pulumi.Output[int]

    def __init__(self, name, x, opts=None):
        super().__init__(Provider(), name, {"x": x, "y": None}, opts)


class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("kryonix:messaging:Group", name, None, opts)
        self.password = random.RandomPassword("password", length=20, opts=pulumi.ResourceOptions(parent=self))
        inside = pulumi.ResourceOptions(parent=self, depends_on=[self.password], deleted_with=self.password)
        self.dynamic = Dynamic("dynamic", "v", inside)
        self.register_outputs({"y": self.dynamic.y, "password": self.password.result})


group = Group("group")
explicit = random.Provider("explicit")
random.RandomPassword("other", length=8, special=False, opts=pulumi.ResourceOptions(provider=explicit))
pulumi.export("password", group.password.result)
pulumi.export("y", group.dynamic.y)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a passphrase")
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    backend = tmp_path / "backend"
    backend.mkdir()
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{backend}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    return folder


def pulumi(project: Path, *arguments: str) -> str:
    """Return the CLI's output; fail with it on errors."""
    command = ["pulumi", *arguments, "--non-interactive", "--stack", "dev"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def urns(deployment: dict[str, Any]) -> set[str]:
    return {resource["urn"] for resource in deployment["deployment"]["resources"]}


def test_the_cli_takes_over_a_local_stack_without_a_change(project: Path) -> None:
    stack = LocalStack(project, "dev")
    stack.up()
    (project / "export.json").write_text(json.dumps(stack.export()))
    subprocess.run(["pulumi", "stack", "init", "dev"], cwd=project, check=True, capture_output=True, timeout=120)
    pulumi(project, "stack", "import", "--file", "export.json")
    pulumi(project, "preview", "--expect-no-changes")
    outputs = json.loads(pulumi(project, "stack", "output", "--json", "--show-secrets"))
    assert outputs == stack.outputs(show_secrets=True)


def test_the_local_engine_takes_over_a_cli_stack_with_equal_urns(project: Path) -> None:
    subprocess.run(["pulumi", "stack", "init", "dev"], cwd=project, check=True, capture_output=True, timeout=120)
    pulumi(project, "up", "--yes", "--skip-preview")
    deployment = json.loads(pulumi(project, "stack", "export"))
    stack = LocalStack(project, "dev")
    put_state(project, "dev", deployment)
    assert set(stack.up().changes) == {"same"}
    stack.destroy()
    stack.up()
    assert urns(stack.export()) == urns(deployment)
