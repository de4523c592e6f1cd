"""A service's folder of certificates."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kryonix.certificates.authority import Authority
from kryonix.certificates.placement import CLIENTS, SERVER, TRUST, date, place, placed

CA = Authority.create("Kryonix test CA 1")
TICK_NS = 20_000_000
"""More than a tick of the clock by which a file system dates files."""
OF_CLIENTS = Authority.create("Kryonix test clients' CA 1").certificate


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_all_files_get_the_folders_owner_and_are_for_it_alone(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, 4321)
    leaf = CA.issue_server(["broker"])
    assert place(tmp_path, leaf, CA.certificate, OF_CLIENTS)
    assert content(tmp_path) == {SERVER: leaf.pem, TRUST: CA.certificate, CLIENTS: OF_CLIENTS}
    owner = tmp_path.stat()
    for file in tmp_path.iterdir():
        found = file.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (owner.st_uid, owner.st_gid, 0o600)


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    leaf = CA.issue_server(["broker"])
    place(tmp_path, leaf, CA.certificate)
    before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    assert not place(tmp_path, leaf, CA.certificate)
    assert {file.name: file.stat().st_ino for file in tmp_path.iterdir()} == before


def test_the_certificate_is_placed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that waits for it starts with all that it needs."""
    order, rename = list[str](), Path.replace

    def noted(self: Path, target: Path) -> Path:
        order.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    place(tmp_path, CA.issue_server(["broker"]), CA.certificate, OF_CLIENTS)
    assert sorted(order) == sorted([SERVER, TRUST, CLIENTS])
    assert order[-1] == SERVER


def test_a_file_is_newer_than_any_look_before_its_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed, rename = dict[str, int](), Path.replace

    def slowly(self: Path, target: Path) -> Path:
        os.utime(self, ns=(0, 0))  # as if writing it had taken long
        renamed[target.name] = time.time_ns() - TICK_NS
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", slowly)
    place(tmp_path, CA.issue_server(["broker"]), CA.certificate)
    assert renamed.keys() == {SERVER, TRUST}
    for name, at in renamed.items():
        assert (tmp_path / name).stat().st_mtime_ns >= at, "Erlang would keep the old one"


def test_a_file_that_a_service_missed_gets_another_date(tmp_path: Path) -> None:
    place(tmp_path, CA.issue_server(["broker"]), CA.certificate)
    for file in tmp_path.iterdir():
        os.utime(file, ns=(0, 0))
    date(tmp_path)
    assert [file.name for file in tmp_path.iterdir() if not file.stat().st_mtime_ns] == []


def test_a_lost_mode_is_put_right(tmp_path: Path) -> None:
    leaf = CA.issue_server(["broker"])
    place(tmp_path, leaf, CA.certificate)
    (tmp_path / SERVER).chmod(0o644)
    assert place(tmp_path, leaf, CA.certificate)
    assert (tmp_path / SERVER).stat().st_mode & 0o777 == 0o600


def test_what_an_ended_run_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".{SERVER}.new").write_text("half")
    target = tmp_path.parent / "elsewhere"
    target.write_text("kept")
    (tmp_path / f".{TRUST}.new").symlink_to(target)  # by a service, which owns its folder
    leaf = CA.issue_server(["broker"])
    place(tmp_path, leaf, CA.certificate)
    assert content(tmp_path) == {SERVER: leaf.pem, TRUST: CA.certificate}
    assert target.read_text() == "kept"


def test_what_is_placed_is_read_back(tmp_path: Path) -> None:
    assert placed(tmp_path) is None
    leaf = CA.issue_server(["broker"])
    place(tmp_path, leaf, CA.certificate)
    assert placed(tmp_path) == leaf
    (tmp_path / SERVER).write_text("broken")
    assert placed(tmp_path) is None
