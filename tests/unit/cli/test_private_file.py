"""Files with secrets are private to their owner and written in one step."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kryonix.cli.output.console import check_target, write_private
from kryonix.errors import InvalidChoice

SECRET = {"password": "h\u00edd"}


@pytest.fixture(autouse=True)
def _careless_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_file_is_private_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    write_private(file, SECRET)
    assert json.loads(file.read_text()) == SECRET
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    write_private(file, {})
    with file.open() as before:
        write_private(file, SECRET)
        assert json.load(before) == {}, "who had it open reads the old content to its end"
    assert json.loads(file.read_text()) == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o777])
def test_a_file_accessible_to_others_is_refused_and_unchanged(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "acme.json"
    file.write_text("theirs")
    file.chmod(mode)
    with pytest.raises(InvalidChoice, match=f"mode {mode:03o}.*chmod 600"):
        write_private(file, SECRET)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("theirs", mode)
    assert list(tmp_path.iterdir()) == [file]


def test_only_regular_files_are_accepted(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("")
    target.chmod(0o600)
    link.symlink_to(target)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for file in (tmp_path, link, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(InvalidChoice, match="not a regular file"):
            check_target(file)
    assert target.read_text() == ""


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    for file in (tmp_path / "none" / "acme.json", Path("/proc/acme.json")):
        with pytest.raises(InvalidChoice, match="can't be written"):
            write_private(file, SECRET)
