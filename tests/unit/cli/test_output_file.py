"""Results without secrets are written in one step, for everybody to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kryonix.cli.output.console import check_output, write_output
from kryonix.errors import InvalidChoice


def test_a_file_is_written_with_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_output(tmp_path / "model.json", b"one", "--out")
    finally:
        os.umask(before)
    assert (tmp_path / "model.json").read_bytes() == b"one"
    assert (tmp_path / "model.json").stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_a_file_is_replaced_in_one_step_and_a_link_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "model.json", tmp_path / "current.json"
    file.write_bytes(b"one")
    link.symlink_to(file)
    with file.open("rb") as before:
        write_output(link, b"two", "--out")
        assert before.read() == b"one", "who had it open reads the old content to its end"
    assert file.read_bytes() == b"two"
    assert link.is_symlink()


def test_places_that_cannot_be_written_are_refused_and_named(tmp_path: Path) -> None:
    for file in (tmp_path, Path("/dev/null"), tmp_path / "none" / "model.json", Path("/proc/model.json")):
        with pytest.raises(InvalidChoice, match="--picture '"):
            check_output(file, "--picture")
    assert list(tmp_path.iterdir()) == []


def test_a_loop_of_links_is_refused_and_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InvalidChoice, match=r"--out '.*' is a loop of symbolic links"):
        check_output(loop, "--out")
