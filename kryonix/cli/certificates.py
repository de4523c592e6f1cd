"""`kryonix certificates`: what listeners serve, renewal, and the CA."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from kryonix.certificates.keeper import Keeper, PlaceStatus, status_json
from kryonix.certificates.places import read_keeper_file
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, command
from kryonix.cli.output.console import out, print_result
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cli.site import open_site, platform_command
from kryonix.errors import InvalidChoice, ServiceUnreachable

_FAILED: Final = 1
_LOOP_PATIENCE_S: Final = 10.0
_COLOURS: Final = {"served": "green", "waiting": "yellow", "not answering": "yellow"}

app = group("certificates", "Certificates of services: what is served, renewal, and the CA.")
ca = group("ca", "The platform's own CA: print it, and change it in three steps.")
app.add_typer(ca)


@command(app)
def keep(
    file: Annotated[Path, typer.Option(metavar="FILE", help="Who issues, and where certificates belong (JSON).")],
    once: Annotated[bool, typer.Option("--once", help="Bring all places to their goal once, and end.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --once: renew what is not due too.")] = False,
    folder: Annotated[Path, typer.Option(help="Folder for status.json, and for the lock of a round.")] = Path("/tls"),
    interval: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds between two rounds.")] = 60.0,
    timeout: Annotated[
        float, typer.Option(min=0, max=3_600, help="With --once: seconds until services must serve what is in place.")
    ] = 60.0,
    alive_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Touch this file every 2 seconds, for a health check.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Issue, place and renew the certificates of services, until SIGTERM. It runs in the platform's own container."""
    if force and not once:
        raise InvalidChoice("--force renews everything in every round: give --once too")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        keeper = Keeper(read_keeper_file(file), folder)
        if not once:
            stop = Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            keeper.run(stop, interval=interval, patience=_LOOP_PATIENCE_S, alive_file=alive_file)
            return
        statuses = keeper.round(force=force, patience=timeout)
    except OSError as error:
        raise InvalidChoice(f"--folder {str(folder)!r} can't be used: {error.strerror}") from error
    _print_places(statuses, json_output)


def _print_places(statuses: Iterable[PlaceStatus], json_output: bool) -> None:
    found = list(statuses)
    value = status_json(found, datetime.now(UTC))
    print_result(value, responsive_table("certificates", _PLACES, value["places"], out), json_output)
    _exit_unless_served({each.state for each in found})


def _exit_unless_served(states: set[str]) -> None:
    if states & {"rejected", "not served"}:
        raise typer.Exit(_FAILED)
    if states - {"served"}:
        raise typer.Exit(ServiceUnreachable.exit_status)


@platform_command(ca, "print")
def print_ca(platform: PlatformOptions) -> None:
    """Print the certificates of the CAs that clients of the platform trust (PEM)."""
    sys.stdout.write(_bundle(platform))


def _bundle(platform: PlatformOptions) -> str:
    """Return the CAs that clients trust. Raises InvalidChoice if the platform has none of its own."""
    bundle = str(open_site(platform).outputs.get("ca_certificate") or "")
    if not bundle:
        raise InvalidChoice(f"the platform {platform.stack!r} has no CA of its own. Turn TLS on: `kryonix:tls: true`")
    return bundle if bundle.endswith("\n") else f"{bundle}\n"


_PLACES: Final[tuple[Column[dict[str, Any]], ...]] = (
    Column("service", lambda each: each["role"]),
    Column("state", lambda each: Text(each["state"], _COLOURS.get(each["state"], "red"))),
    Column("expires", lambda each: each["expires"][:10], drop_priority=4),
    Column("renews", lambda each: each["renews"][:10], drop_priority=3),
    Column("names", lambda each: ", ".join(each["names"]), min_width=12, drop_priority=2),
    Column("serial", lambda each: each["serial"][:12], drop_priority=1),
    Column("problem", lambda each: each["problem"], min_width=16),
)
