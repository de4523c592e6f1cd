"""`kryonix backup schedule`: make, verify and prune backups daily."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress
from datetime import datetime, time, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from kryonix.backup.creation import Creation
from kryonix.backup.encryption import Identities, Recipients, new_identity
from kryonix.backup.retention import Retention
from kryonix.backup.rounds import Rounds
from kryonix.backup.schedule import Schedule
from kryonix.cli.bundles import RecipientKeys, To, archive_of, creation_of, recipients_of
from kryonix.cli.options import PlatformOptions, command
from kryonix.cli.output.console import err
from kryonix.cli.site import open_site
from kryonix.errors import InvalidChoice
from kryonix.registry.backups import expect_backups
from kryonix.registry.connection import connect
from kryonix.topology.errors import shown

_ROUND_S: Final = 30
_ALIVE_S: Final = 20
_LONGEST_JITTER_MIN: Final = 720

app = typer.Typer()


@command(app)
def schedule(
    platform: PlatformOptions,
    to: To = None,
    at: Annotated[str, typer.Option(metavar="HH:MM", help="Time of day of the backups.")] = "02:00",
    time_zone: Annotated[str, typer.Option(metavar="ZONE", help="Zone of that time, such as Europe/Lisbon.")] = "UTC",
    jitter_minutes: Annotated[
        int, typer.Option(min=0, max=_LONGEST_JITTER_MIN, help="Spread the tenants over this time after it.")
    ] = 15,
    keep_daily: Annotated[int, typer.Option(min=0, help="Days whose newest bundle is kept.")] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0, help="Weeks whose newest bundle is kept.")] = 5,
    keep_monthly: Annotated[int, typer.Option(min=0, help="Months whose newest bundle is kept.")] = 12,
    recipient: RecipientKeys = None,
    identity: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The schedule's own identity, to verify with; made if missing."),
    ] = None,
    alive_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Touch this file every {_ALIVE_S} s, for a health check.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Expect no backups of this stack any more, so that no alert fires; end.")
    ] = False,
) -> None:
    """Back up the platform and every tenant daily, verify each bundle, and delete old ones. Runs until it is stopped.

    A bundle that was missed is made at once, under the time at which it was due. Any number of schedules may run: a
    bundle is made once.
    """
    if forget:
        _forget(platform)
        return
    daily = Schedule(at=_time(at), zone=_zone(time_zone), jitter=timedelta(minutes=jitter_minutes))
    if not (keep_daily or keep_weekly or keep_monthly):
        raise InvalidChoice("--keep-daily, --keep-weekly and --keep-monthly are all 0: give at least one")
    retention = Retention(daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly, zone=daily.zone)
    if identity is None:
        raise InvalidChoice(
            "a bundle is encrypted, and the schedule verifies it. Add --identity with a file of its own"
        )
    if alive_file is not None:
        _check_writable(alive_file)
    archive, recipients = archive_of(platform, to, "--to"), recipients_of(platform, recipient)
    own = _own_key(identity)
    everyone = Recipients.joined([recipients, own.recipients(str(identity))])

    def opened() -> Creation:
        return creation_of(open_site(platform), archive, everyone)

    # A mistyped stack, folder or login ends the command; what is down later is tried again.
    opened()
    archive.store.check()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ending = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    if alive_file is not None:
        Thread(target=_touch, args=[alive_file, ending], daemon=True).start()
    rounds = Rounds(opened, daily, retention, own, ending=ending)
    err.print(
        f"backing up {archive.stack} to {archive.store.address} at {at} {time_zone}", soft_wrap=True, markup=False
    )
    while not ending.is_set():
        rounds.run()
        ending.wait(_ROUND_S)


def _forget(platform: PlatformOptions) -> None:
    with connect(open_site(platform).registry_dsn) as connection:
        expect_backups(connection, platform.stack.rpartition("/")[2], [])
    err.print(f"no backups of {platform.stack} are expected any more; those made stay", soft_wrap=True)


def _own_key(file: Path) -> Identities:
    if not file.exists():
        err.print(f"made the key {file}; its recipient is {new_identity(file)}", soft_wrap=True, markup=False)
    return Identities.read([file])


def _check_writable(file: Path) -> None:
    try:
        file.touch()
    except OSError as error:
        raise InvalidChoice(f"--alive-file {file} can't be written ({error.strerror})") from None


def _touch(file: Path, ending: Event) -> None:
    """Touch a file until the end. While it can't be written, its age tells."""
    while not ending.is_set():
        with suppress(OSError):
            file.touch()
        ending.wait(_ALIVE_S)


def _time(text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise InvalidChoice(f"--at {shown(text)} is not a time of day such as 02:00") from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise InvalidChoice(f"--time-zone {shown(name)} is not a time zone such as UTC or America/Sao_Paulo") from None
