"""A project in a temporary folder, with a world of its own to change."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.events import Event
from kryonix.engines.local import LocalStack
from tests.support.fake_world import PROGRAM_HEAD, World


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a passphrase")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    monkeypatch.setattr("kryonix.engines.local.secrets.ROUNDS", 10)  # the real number takes half a second each time


class Bench:
    """A project folder under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(folder / "world")
        self.events: list[Event] = []
        (folder / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")

    def program(self, body: str) -> None:
        """Write the program; its head defines Thing, Group and Provider."""
        (self.folder / "__main__.py").write_text(PROGRAM_HEAD + textwrap.dedent(body))

    def stack(self, name: str = "dev", **options: Any) -> LocalStack:
        """A stack of the project on the fake world."""
        options = {"providers": self.world.provider, "on_event": self.events.append} | options
        return LocalStack(self.folder, name, **options)

    def up(self, body: str, **options: Any) -> Any:
        """Write the program and bring it up."""
        self.program(body)
        return self.stack(**options).up()

    def resources(self, stack: str = "dev") -> dict[str, Any]:
        """Entries of the exported deployment by the resource's name; a replaced one's is `name (old)`."""
        deployment = self.stack(stack).export()["deployment"]
        return {
            r["urn"].split("::")[-1] + (" (old)" if r.get("delete") else ""): r for r in deployment.get("resources", [])
        }

    def state_text(self, stack: str = "dev") -> str:
        """Everything written in the stack's state folder."""
        folder = self.folder / ".kryonix" / "stacks" / stack
        return "".join(path.read_text() for path in folder.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


BenchFactory = Callable[[], Bench]
