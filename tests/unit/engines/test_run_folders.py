"""Temporary folders of runs: only those of killed processes are removed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kryonix.engines.workspace import clear_abandoned, run_folder
from tests.support.project import ROOT

HOLDING = """
import sys
from kryonix.engines.workspace import run_folder
with run_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_a_run_folder_is_removed_after_its_block() -> None:
    with run_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_only_folders_of_dead_processes_are_removed(temporary: Path) -> None:
    with holding() as (dead, abandoned), holding() as (_, used):
        outside = temporary / "project"
        outside.mkdir()
        (abandoned / "link").symlink_to(outside)
        assert clear_abandoned() == []
        dead.kill()
        dead.wait()
        assert clear_abandoned() == [abandoned]
        assert (abandoned.exists(), used.is_dir(), outside.is_dir()) == (False, True, True)


def test_a_folder_in_use_by_another_process_stays() -> None:
    with holding() as (dead, folder):
        dead.kill()
        dead.wait()
        engine = subprocess.Popen([sys.executable, "-c", "input()"], cwd=folder, stdin=subprocess.PIPE)
        try:
            assert clear_abandoned() == []
        finally:
            engine.communicate()
        assert clear_abandoned() == [folder]


def test_foreign_folders_stay(temporary: Path) -> None:
    (temporary / "kryonix-run-nolock").mkdir()
    (temporary / "kryonix-something").mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".kryonix-run").touch()
    (temporary / "kryonix-run-link").symlink_to(elsewhere)
    (temporary / "kryonix-run-file").touch()
    assert clear_abandoned() == []
    assert (elsewhere / ".kryonix-run").exists()
