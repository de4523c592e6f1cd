"""scripts/setup makes a .venv of the checkout's own; the help of the other scripts."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import cache_from_source
from pathlib import Path

import pulumi
import pytest

from tests.support.project import ROOT


@pytest.mark.parametrize("script", ["test", "demo", "drill"])
def test_help_prints_the_usage_and_starts_nothing(script: str) -> None:
    ran = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"scripts/{script}" in ran.stdout
    assert "Exit status:" in ran.stdout


def test_a_mistyped_option_of_scripts_test_starts_nothing() -> None:
    ran = subprocess.run([ROOT / "scripts" / "test", "--unti"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr.startswith("test: there is no option --unti")


@pytest.mark.parametrize("exists", [True, False])
def test_setup_refuses_a_symbolic_link_and_leaves_its_folder(tmp_path: Path, exists: bool) -> None:
    other, scripts = tmp_path / "other" / ".venv", tmp_path / "scripts"
    if exists:
        other.mkdir(parents=True)
        (other / "pyvenv.cfg").write_text("another checkout's")
    scripts.mkdir()
    (tmp_path / ".venv").symlink_to(other)
    shutil.copy(ROOT / "scripts" / "setup", scripts)
    ran = subprocess.run([scripts / "setup"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr == (
        f"setup: .venv is a symbolic link to '{other}': setup would empty that folder. Remove the link with 'rm .venv' "
        "and run scripts/setup again\n"
    )
    assert [file.name for file in other.parent.glob("*/*")] == (["pyvenv.cfg"] if exists else [])


def test_setup_compiles_what_it_installs() -> None:
    modules = list(Path(pulumi.__file__).parent.rglob("*.py"))
    assert len(modules) > 100
    assert [module for module in modules if not Path(cache_from_source(str(module))).exists()] == []
