"""Shared fixtures: the platform's broker, and tenant stacks on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant

needs_cli = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="this runs the real CLI, and there is no `pulumi` on PATH"
)
ENGINES = ("local", pytest.param("pulumi", marks=needs_cli))
OWN = tenant("own", "crm", plan="basic")

Beside = Callable[..., Project]
Planned = Callable[[Project], dict[str, Any]]


def changed(summary: Mapping[str, Any]) -> list[str]:
    """Return a run's changes, applied or planned."""
    return [f"{step['op']} {step['name']}" for step in summary["steps"] if step["op"] != "read"]


@pytest.fixture(scope="session")
def broker(platform: Project) -> Iterator[LiveBroker]:
    with LiveBroker(platform.outputs()) as found:
        yield found


@pytest.fixture
def planned(platform: Project) -> Planned:
    """Return the offline plan of a stack's tenant."""

    def plan(stack: Project) -> dict[str, Any]:
        config = yaml.safe_load(stack.config_file.read_text())["config"]
        name = f"{stack.stack}-tenants.yaml"
        platform.write(name, yaml.safe_dump({"tenants": [config["kryonix:tenant"]]}))
        result = platform.kryonix("plan", "--json", "--tenants", name)
        assert result.returncode == 0, result.stderr
        (found,) = json.loads(result.stdout)["tenants"]
        return dict(found)

    return plan


@pytest.fixture
def beside(platform: Project, broker: LiveBroker) -> Iterator[Beside]:
    """Makes the config of a stack with one tenant on the platform; what is left of it is taken away in the end."""
    made: list[tuple[Project, str]] = []

    def make(id: str, *modules: str, plan: str = "basic", **fields: Any) -> Project:
        stack = platform.beside(f"tenant-{id}", tenant=tenant(id, *modules, plan=plan, **fields))
        made.append((stack, id))
        return stack

    yield make
    for stack, id in made:
        stack.configure(deletionProtection=False)
        broker.forget(id)


@dataclass(frozen=True)
class Stacks:
    """A platform with `acme` in its list, `own` in a stack of its own beside it, and the engine that made both."""

    platform: Project
    own: Project
    engine: str

    def preview(self, stack: Project) -> dict[str, Any]:
        return stack.must("preview", engine=self.engine)


@pytest.fixture(scope="session", params=ENGINES)
def stacks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    """Made by each engine. Tests leave both stacks as they are."""
    folder = tmp_path_factory.mktemp("changing")
    platform = Project.platform(folder / "project", tenant("acme", "crm", plan="basic"))
    if request.param == "pulumi":
        platform.use_cli(folder / "backend")
    own = platform.beside("tenant-own", tenant=OWN)
    with platform.running(request.param):
        own.must("up", engine=request.param)
        yield Stacks(platform, own, request.param)
