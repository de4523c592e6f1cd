"""`kryonix certificates`: what addresses serve, renewal, the keeper itself, and the CA."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

import typer

from kryonix.certificates.keeper import STATUS, Keeper, status_json
from kryonix.certificates.listeners import Listener, listeners_of
from kryonix.certificates.places import read_keeper_file
from kryonix.certificates.served import CertificateUnreadable
from kryonix.checks.certificates import SOON_DAYS, problem_of
from kryonix.cli import certificates_ca
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, command
from kryonix.cli.output.certificates import Seen, places_table, seen_table
from kryonix.cli.output.console import err, out, print_result
from kryonix.cli.site import open_site, platform_command, print_outage
from kryonix.engines.containers import keeper_container, run_inside
from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable

_FAILED: Final = 1
_LOOP_PATIENCE_S: Final = 2.0
_FOLDER: Final = Path("/tls")
_READS: Final = 3
"""Docker may lose the output of a quick command."""
_RENEW: Final = ("certificates", "keep", "--file", "/etc/kryonix/certificates.json", "--once", "--force", "--json")

app = group("certificates", "Certificates of services: what is served, renewal, and the CA.")
app.add_typer(certificates_ca.app)


@platform_command(app, "list")
def list_certificates(platform: PlatformOptions, json_output: Json = False) -> None:
    """List the platform's addresses with TLS: what each serves, until when, and when it is renewed."""
    outputs = _secured(platform)
    seen = list(_seen(outputs, SOON_DAYS))
    try:
        kept = [place for each in _keepers(platform, outputs) for place in _status(*each)]
    except ServiceUnreachable as error:
        err.print(f"The keeper's part is missing: {error}.", markup=False, soft_wrap=True)
        kept = []
    seen = _joined(seen, kept)
    print_result(seen, seen_table(seen, out), json_output)


@platform_command(app)
def check(
    platform: PlatformOptions,
    within: Annotated[
        int, typer.Option(min=0, max=3_650, metavar="DAYS", help="Fail for certificates that expire within these days.")
    ] = SOON_DAYS,
    json_output: Json = False,
) -> None:
    """Connect to each address as a client that trusts the platform's CA: what is refused, and why.

    Ends with 1 if a certificate is refused or expires soon, with 3 if an address does not answer.
    """
    seen = list(_seen(_secured(platform), within))
    print_result(seen, seen_table(seen, out), json_output)
    _exit({each.state for each in seen} - {"accepted"}, platform)


@platform_command(app)
def renew(platform: PlatformOptions, json_output: Json = False) -> None:
    """Renew all certificates now, and verify from here that clients accept what is served then.

    Nothing is restarted, and no connection ends.
    """
    outputs = _secured(platform)
    places: list[dict[str, Any]] = []
    away: list[ServiceUnreachable] = []
    for container, host in _keepers(platform, outputs):
        try:
            places += _renewed(container, host)
        except ServiceUnreachable as error:  # the other machines' certificates are renewed all the same
            away.append(error)
    seen = _joined(list(_seen(outputs, SOON_DAYS)), places)
    failed = {each["state"] for each in places} | {each.state for each in seen}
    tables = [places_table(places, out), seen_table(seen, out)]
    print_result({"places": places, "addresses": seen}, tables, json_output)
    if away:
        raise away[0]
    _exit(failed - {"served", "accepted"}, platform)


@command(app)
def keep(
    file: Annotated[Path, typer.Option(metavar="FILE", help="Who issues, and where certificates belong (JSON).")],
    once: Annotated[bool, typer.Option("--once", help="Bring all places to their goal once, and end.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --once: renew what is not due too.")] = False,
    folder: Annotated[Path, typer.Option(help="Folder for status.json, and for the lock of a round.")] = _FOLDER,
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
        keeper.order(force=force)
        found = status_json(keeper.round(force=force, patience=timeout), datetime.now(UTC))
    except OSError as error:
        raise InvalidChoice(f"--folder {str(folder)!r} can't be used: {error.strerror}") from error
    print_result(found, places_table(found["places"], out), json_output)
    _exit({each["state"] for each in found["places"]} - {"served"})


def _exit(problems: Collection[str], platform: PlatformOptions | None = None) -> None:
    """Exit with 3 if a service does not answer, else with 1 if there is another problem."""
    if {"not answering", "waiting"} & set(problems):
        if platform is not None:
            print_outage(platform)
        raise typer.Exit(ServiceUnreachable.exit_status)
    if problems:
        raise typer.Exit(_FAILED)


def _secured(platform: PlatformOptions) -> Mapping[str, Any]:
    """Return a platform's outputs. Raises InvalidChoice if none of its addresses has TLS."""
    outputs = open_site(platform).outputs
    if not listeners_of(outputs):
        remedy = "`kryonix:tls` turns it on (docs/platform.md, Turn TLS on)"
        raise InvalidChoice(f"no address of the platform {platform.stack!r} has TLS. {remedy}")
    return outputs


def _keepers(platform: PlatformOptions, outputs: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the keepers' containers, and the URLs of their Docker hosts; this machine's is empty."""
    own = {"container": keeper_container(platform.stack.rpartition("/")[2]), "docker": ""}
    return [(each["container"], each.get("docker", "")) for each in outputs.get("certificate_keepers") or [own]]


def _renewed(container: str, host: str) -> list[dict[str, Any]]:
    """Let a keeper renew all its places; return how they are. Raises KryonixError and ServiceUnreachable."""
    status, said, problem = run_inside(container, ["kryonix", *_RENEW], host)
    if not (said or status):  # on a busy machine Docker may lose the output; the keeper has written it down
        return _status(container, host)
    try:
        return list(json.loads(said)["places"])
    except (ValueError, KeyError):
        last = problem.strip().splitlines()[-1:] or [f"status {status}"]
        raise KryonixError(f"the renewal in {container} failed: {last[0]}") from None


def _status(container: str, host: str) -> list[dict[str, Any]]:
    """Return how a keeper's places were after its last round. Raises ServiceUnreachable."""
    status, said, problem = 0, "", ""
    for _ in range(_READS):
        status, said, problem = run_inside(container, ["cat", str(_FOLDER / STATUS)], host)
        if status or said:
            break
    if status or not said:
        raise ServiceUnreachable(f"{container} has done no round yet ({problem.strip() or 'no status'})")
    return list(json.loads(said)["places"])


def _seen(outputs: Mapping[str, Any], days: float) -> Iterator[Seen]:
    ca = str(outputs.get("ca_certificate") or "")
    for listener in listeners_of(outputs).values():
        yield _look(listener, ca, days)


def _look(listener: Listener, ca: str, days: float) -> Seen:
    try:
        found, problem = listener.served(), problem_of(listener, ca, datetime.now(UTC), days)
    except CertificateUnreadable as error:
        return Seen(address=str(listener), state="not answering", problem=str(error))
    soon = problem.startswith("the certificate expires")
    return Seen(
        address=str(listener),
        state="expires soon" if soon else "refused" if problem else "accepted",
        names=found.names,
        issuer=found.issuer,
        serial=f"{found.serial:x}",
        expires=found.expires.isoformat(),
        problem=problem,
    )


def _joined(seen: Sequence[Seen], places: Iterable[Mapping[str, Any]]) -> list[Seen]:
    """Return what is seen with the keeper's part of it, and the places that are seen at no address or have a problem.

    An address shows a public certificate only to clients that use a public name.
    """
    known = {place["serial"]: place for place in places if place["serial"]}
    joined = [
        replace(each, service=known[each.serial]["role"], renews=known[each.serial]["renews"])
        if each.serial in known
        else each
        for each in seen
    ]
    seen_serials = {each.serial for each in seen}
    unseen = [place for place in places if place["serial"] not in seen_serials or place["state"] == "rejected"]
    return joined + [
        Seen(
            address=place["endpoint"],
            service=place["role"],
            **{key: place[key] for key in ("state", "names", "issuer", "serial", "expires", "renews", "problem")},
        )
        for place in unseen
    ]
