"""`kryonix backup schedule` on a platform: bundles made once, verified, whatever is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kryonix.backup.encryption import new_identity
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.backups import NewestBackups, expect_backups, fetch_newest_backups
from kryonix.registry.connection import connect
from tests.support.project import Project
from tests.support.waiting import eventually

ENDS_S = 60


@pytest.fixture(autouse=True)
def no_backups(platform: Project) -> None:
    """Other files make backups of the same platform."""
    with connect(platform.outputs()["registry_dsn"]) as connection:
        connection.execute("DELETE FROM tenants.backups")
        connection.execute("DELETE FROM tenants.backup_schedules")


@pytest.fixture
def recipient(tmp_path: Path) -> str:
    return new_identity(tmp_path / "operator")


@contextmanager
def schedule(platform: Project, folder: Path, recipient: str, name: str = "one") -> Iterator[subprocess.Popen[str]]:
    """Run the command. Today's or yesterday's bundles are missing, so it makes them at once."""
    keys = ["--recipient", recipient, "--identity", str(folder / "identity"), "--alive-file", str(folder / name)]
    options = ["--stack", platform.stack, "--engine", "local", "--to", str(folder / "bundles"), "--jitter-minutes", "0"]
    command = platform.command("backup", "schedule", *options, *keys)
    process = subprocess.Popen(command, cwd=platform.folder, env=platform.env, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def newest(platform: Project) -> dict[str, NewestBackups]:
    with connect(platform.outputs()["registry_dsn"]) as connection:
        return {each.subject: each for each in fetch_newest_backups(connection)}


def bundles(folder: Path) -> list[str]:
    return sorted(str(file.parent.relative_to(folder / "bundles")) for file in folder.rglob("*.age"))


def all_verified(platform: Project) -> bool:
    found = newest(platform)
    return all(subject in found and found[subject].verified for subject in subjects(platform))


def subjects(platform: Project) -> tuple[str, ...]:
    """Return the subjects that are whole: other files may have left a tenant without a vhost."""
    return platform.stack, "acme", "beta"


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=ENDS_S)
    return process.returncode, log


def test_two_schedules_make_and_verify_each_bundle_once(platform: Project, tmp_path: Path, recipient: str) -> None:
    new_identity(tmp_path / "identity")
    with schedule(platform, tmp_path, recipient) as one, schedule(platform, tmp_path, recipient, "other") as other:
        eventually("every bundle is verified", lambda: all_verified(platform))
        eventually("both are alive", lambda: (tmp_path / "one").exists() and (tmp_path / "other").exists())
        ended = [end(one), end(other)]
    assert [status for status, _ in ended] == [0, 0], ended
    stack, made = platform.stack, bundles(tmp_path)
    assert {f"{stack}/platform", f"{stack}/tenants/acme", f"{stack}/tenants/beta"} <= set(made)
    assert len(made) == len(set(made)), "one of each"
    found = newest(platform)
    assert not any(found[subject].error or found[subject].verify_error for subject in subjects(platform))
    checked = platform.kryonix("check", "--stack", stack, "--engine", "local", "--json")
    failed = [each for each in json.loads(checked.stdout)["findings"] if each["outcome"] != "pass"]
    assert not [each for each in failed if each["check"] == "backups" and each.get("tenant") in (None, "acme", "beta")]


def test_a_killed_schedule_goes_on_where_it_was(platform: Project, tmp_path: Path, recipient: str) -> None:
    with schedule(platform, tmp_path, recipient) as process:
        eventually("a bundle is there", lambda: bundles(tmp_path))
        process.kill()
    with schedule(platform, tmp_path, recipient) as process:
        eventually("every bundle is verified", lambda: all_verified(platform))
        status, log = end(process)
    assert status == 0, log
    assert len(bundles(tmp_path)) == len(set(bundles(tmp_path))), "one of each"
    with Broker.of(platform.outputs()) as broker:
        assert [vhost.name for vhost in broker.vhosts() if "verify" in vhost.name] == []


def test_backups_that_nobody_expects_any_more_are_not_missed(platform: Project) -> None:
    with connect(platform.outputs()["registry_dsn"]) as connection:
        expect_backups(connection, platform.stack, [("tenant", "acme")])
    assert newest(platform)["acme"].expected_since
    result = platform.kryonix("backup", "schedule", "--forget", "--stack", platform.stack, "--engine", "local")
    assert result.returncode == 0, result.stderr
    assert not any(each.expected_since for each in newest(platform).values())
