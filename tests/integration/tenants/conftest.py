"""A small project, and the deployers that run it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kryonix.engines.choice import engine_for
from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.events import Event
from tests.support.lifecycle_env import LifecycleEnv
from tests.support.live_broker import LiveBroker
from tests.support.project import Project

PROGRAM = Path(__file__).parent / "notes"
NO_CLI = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="the Automation API runs the real CLI, and there is no `pulumi` on PATH"
)


@dataclass
class Notes:
    """The project, in a folder of its own, and the folder that it writes to."""

    project: Path
    world: Path
    engine: Engine
    events: list[Event] = field(default_factory=list)

    def spec(self, stack: str, notes: Mapping[str, str] | None = None, **config: Any) -> StackSpec:
        wanted = {"folder": str(self.world), "notes": dict(notes or {}), **config}
        return StackSpec(name=stack, config={f"notes:{key}": value for key, value in wanted.items()})

    def text(self, stack: str, name: str) -> str:
        return (self.world / f"{stack}.{name}").read_text()

    def files(self) -> set[str]:
        return {path.name for path in self.world.iterdir()} - {"log"}


def copy_program(to: Path) -> Path:
    """The project in a folder, run by the Python that runs the tests."""
    shutil.copytree(PROGRAM, to)
    file = to / "Pulumi.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["runtime"] = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    file.write_text(yaml.safe_dump(settings))
    return to


@pytest.fixture(params=["local", pytest.param("pulumi", marks=NO_CLI)])
def notes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notes:
    """The project, run by each engine in turn, with a state of its own."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "world").mkdir()
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a test's own")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'backend'}")
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    project = copy_program(tmp_path / "project")
    return Notes(project, tmp_path / "world", engine_for(request.param, project, concurrency=2))


@pytest.fixture(scope="module")
def env(platform: Project) -> Iterator[LifecycleEnv]:
    """Operations on tenants of the shared platform."""
    with pytest.MonkeyPatch.context() as patch, LiveBroker(platform.outputs()) as broker:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])
        patch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
        with LifecycleEnv.on(platform, broker) as made:
            yield made
