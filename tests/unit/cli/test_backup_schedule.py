"""`kryonix backup schedule`: its options, its key, and its end."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from kryonix.backup.encryption import Identities
from kryonix.backup.retention import Retention
from kryonix.backup.schedule import Schedule
from kryonix.cli import backup_schedule
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.topology.cells import single_cell
from tests.support.bundles import keys
from tests.support.waiting import eventually

(RECIPIENT,) = keys()[0].lines


class Begun:
    """The rounds that a command has begun: their parts. The first round ends the command."""

    def __init__(self, opened: Callable[[], Any], *parts: Any, ending: Event) -> None:
        self.creation, self.parts = opened(), parts
        self.ending = ending

    def run(self) -> None:
        self.ending.set()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    found: list[Begun] = []

    def rounds(*args: Any, **options: Any) -> Begun:
        found.append(Begun(*args, **options))
        return found[-1]

    site = SimpleNamespace(registry_dsn="dsn", engine=None, cells=single_cell("dev"))
    monkeypatch.setattr(backup_schedule, "Rounds", rounds)
    monkeypatch.setattr(backup_schedule, "open_site", lambda platform: site)
    monkeypatch.setattr("kryonix.cli.backup_schedule.signal.signal", lambda number, handler: None)
    return found


def run(folder: Path, *options: str) -> Any:
    given = ["--to", str(folder), "--recipient", RECIPIENT, "--identity", str(folder / "identity"), *options]
    return CliRunner().invoke(backup_schedule.app, given)


def test_the_options_are_the_schedules(begun: list[Begun], tmp_path: Path) -> None:
    keep = ["--keep-daily", "3", "--keep-weekly", "2", "--keep-monthly", "1"]
    result = run(tmp_path, "--at", "03:30", "--time-zone", "Europe/Lisbon", "--jitter-minutes", "5", *keep)
    assert result.exit_code == 0, result.output
    zone = ZoneInfo("Europe/Lisbon")
    schedule, retention, _ = begun[0].parts
    assert schedule == Schedule(at=time(3, 30), zone=zone, jitter=timedelta(minutes=5))
    assert retention == Retention(daily=3, weekly=2, monthly=1, zone=zone)
    assert begun[0].creation.archive.store.address == str(tmp_path)


def test_the_key_is_made_once_and_bundles_are_for_it_too(begun: list[Begun], tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == run(tmp_path).exit_code == 0
    key = tmp_path / "identity"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    own = Identities.read([key]).recipients().lines
    assert [each.creation.recipients.lines for each in begun] == [(RECIPIENT, *own)] * 2


def test_the_alive_file_is_touched_until_the_end(tmp_path: Path) -> None:
    file, ending = tmp_path / "alive", Event()
    toucher = Thread(target=backup_schedule._touch, args=[file, ending])
    toucher.start()
    eventually("the file is there", file.exists)
    ending.set()
    toucher.join(60)
    assert not toucher.is_alive()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--at", "25:00"], "--at '25:00' is not a time of day"),
        (["--time-zone", "Mars/Base"], "--time-zone 'Mars/Base' is not a time zone"),
        (["--time-zone", "../etc/passwd"], "is not a time zone"),
        (["--keep-daily", "0", "--keep-weekly", "0", "--keep-monthly", "0"], "are all 0"),
        (["--alive-file", "/proc/alive"], "--alive-file /proc/alive can't be written ("),
        (["--recipient", "age1nonsense"], "is not a valid recipient"),
        (["--to", "ftp://host/folder"], "ftp:// is not a store"),
    ],
)
def test_a_wrong_option_is_refused_before_a_key_is_made(
    begun: list[Begun], tmp_path: Path, options: list[str], problem: str
) -> None:
    result = run(tmp_path, *options)
    assert isinstance(result.exception, KryonixError)
    assert problem in str(result.exception)
    assert result.exception.exit_status == InvalidChoice.exit_status
    assert (begun, list(tmp_path.iterdir())) == ([], [])


def test_a_schedule_needs_a_key_of_its_own(begun: list[Begun], tmp_path: Path) -> None:
    result = CliRunner().invoke(backup_schedule.app, ["--to", str(tmp_path), "--recipient", RECIPIENT])
    assert isinstance(result.exception, InvalidChoice)
    assert "--identity" in str(result.exception)
    assert begun == []
