"""How often the engine runs the `pulumi` command, a stand-in here: each start takes part of a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryonix.engines.engine import StackSpec
from kryonix.engines.pulumi_cli import PulumiEngine

STAND_IN = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  version) echo v3.200.0 ;;
  *--show-secrets*) echo '{{"host": "here", "password": "a word"}}' ;;
  *) echo '{{"host": "here", "password": "[secret]"}}' ;;
esac
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the arguments of each run."""
    command = tmp_path / "bin" / "pulumi"
    command.parent.mkdir()
    command.write_text(STAND_IN.format(log=tmp_path / "log"))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    return tmp_path / "log"


def test_outputs_take_one_run_each_and_one_for_the_version(log: Path, tmp_path: Path) -> None:
    engine, stack = PulumiEngine(tmp_path), StackSpec(name="dev")
    assert engine.outputs(stack) == {"host": "here", "password": "a word"}
    assert engine.outputs(stack, show_secrets=False) == {"host": "here", "password": "[secret]"}
    assert log.read_text().splitlines() == [
        "version",
        "--non-interactive stack output --json --stack dev --show-secrets",
        "--non-interactive stack output --json --stack dev",
    ]
