"""Outcomes for `kryonix router`: where they are read from, and their export and import."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.markup import escape

from kryonix.cli.connection import run_async
from kryonix.cli.groups import group
from kryonix.cli.options import Json, check_tenant, command
from kryonix.cli.output.console import check_output, err, print_result, write_output
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.routing.outcomes import Outcome, lines_in, read_outcomes

Result = TypeVar("Result")

VARIABLE: Final = "KRYONIX_OUTCOMES"
DATABASE: Final = ("postgresql://", "postgres://")
_UNITS_S: Final = {"d": 86_400, "h": 3_600, "min": 60}
_LONGEST_DAYS: Final = 36_500
_BATCH: Final = 1_000

Outcomes = Annotated[
    list[str] | None,
    typer.Option(
        "--outcomes",
        metavar="FILE|ADDRESS",
        help=f"Outcomes: a file of JSON lines, or PostgreSQL's address; repeatable. Default: {VARIABLE}.",
    ),
]
Database = Annotated[
    str | None, typer.Option("--to", metavar="ADDRESS", help=f"PostgreSQL's address. Default: {VARIABLE}.")
]

app = group("outcomes", "What became of messages: export notes as outcomes, and import outcomes.")


@command(app)
def export(
    notes: Annotated[
        str | None,
        typer.Option(metavar="FILE|ADDRESS", help=f"Notes: a file, or PostgreSQL's address. Default: {VARIABLE}."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Tenant, if there are notes of several.")] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only messages newer, such as 14d or 12h.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here. Default: standard output.")] = None,
) -> None:
    """Join notes of sending and of handling, and print the outcome of each message as a line of JSON.

    Messages that may still be waiting are left out, and counted on standard error.
    """
    source, now = place_of(notes, "--notes FILE"), datetime.now(UTC)
    begin = datetime.fromtimestamp(0, UTC) if since is None else now - parse_age(since)
    if output is not None:
        check_output(output, "--output")
    counts: Counter[str] = Counter()
    found = _joined(source, begin, now, tenant, counts)
    if output is None:
        sys.stdout.writelines(each.line() for each in found)
    else:
        write_output(output, "".join(each.line() for each in found).encode(), "--output")
    skipped = ", ".join(f"{count:,} {_SKIPPED[name]}" for name, count in counts.items() if count)
    err.print(f"{len(found):,} outcome(s)" + (f"; left out: {skipped}" if skipped else ""), soft_wrap=True)


_SKIPPED: Final = {
    "unpublished": "without a note of their sending",
    "open": "not yet handled",
    "unreadable": "line(s) that are no notes",
}


@command(app, "import")
def import_outcomes(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Outcomes, as `export` prints them.")],
    tenant: Annotated[str, typer.Option(metavar="ID", help="Tenant whose outcomes these are.")],
    to: Database = None,
    json_output: Json = False,
) -> None:
    """Store the outcomes of a file in PostgreSQL, as notes. The same message again is stored once."""
    from kryonix.messaging.outcomes import PostgresOutcomes

    check_tenant(tenant)
    address = place_of(to, "--to ADDRESS")
    if not address.startswith(DATABASE):
        raise InvalidChoice(f"{address!r} is not an address of PostgreSQL, such as postgresql://USER@HOST/DATABASE")
    found = list(_read_file(str(file)))  # all lines are right before the first is stored

    async def store(table: PostgresOutcomes) -> None:
        for begin in range(0, len(found), _BATCH):
            await table.write([note for each in found[begin : begin + _BATCH] for note in _notes(tenant, each)])

    _with_table(address, store)
    value = {"tenant": tenant, "outcomes": len(found)}
    print_result(value, escape(f"{len(found):,} outcome(s) of {tenant} stored"), json_output)


def outcomes_of(sources: list[str] | None, tenants: Sequence[str] = ()) -> list[Outcome]:
    """Return the outcomes of all sources, from a table only these tenants'.

    Raises InvalidChoice with file and number of a wrong line, ServiceUnreachable.
    """
    now = datetime.now(UTC)
    found: list[Outcome] = []
    for source in [place_of(each, "") for each in sources] if sources else [place_of(None, "--outcomes FILE")]:
        if source.startswith(DATABASE):
            for tenant in tenants or (None,):
                found += _joined(source, datetime.fromtimestamp(0, UTC), now, tenant, Counter())
        else:
            found += _read_file(source)
    return found


def parse_age(text: str) -> timedelta:
    """Return an age such as `14d`, `12h` or `90min`. Raises InvalidChoice."""
    match = re.fullmatch(r"(\d{1,9})(d|h|min)", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_DAYS * _UNITS_S["d"]:
        raise InvalidChoice(f"--since {text[:40]!r} is not an age, such as 14d, 12h or 90min")
    return timedelta(seconds=seconds)


def place_of(given: str | None, option: str) -> str:
    """Return a place as given, or as the variable says. Raises InvalidChoice for none, or a password in argv."""
    if given is not None:
        # Other users of this machine can read command lines.
        address = given.partition("://")[2].rpartition("@")[0]
        if given.startswith(DATABASE) and (":" in address or "password=" in given):
            problem = "other users of this machine can read command lines, and the address has a password"
            raise InvalidChoice(f"{problem}. Set {VARIABLE} to it, or keep the password in ~/.pgpass")
        return given
    if place := os.environ.get(VARIABLE):
        return place
    raise InvalidChoice(f"there are no outcomes. Give {option}, or set {VARIABLE}")


def _read_file(source: str) -> Iterator[Outcome]:
    try:
        with Path(source).open("rb") as opened:
            yield from read_outcomes(lines_in(opened), source)
    except OSError as error:
        raise InvalidChoice(f"{source!r} can't be read: {error.strerror}. Check the path") from error


def _joined(source: str, since: datetime, now: datetime, tenant: str | None, counts: Counter[str]) -> Sequence[Outcome]:
    """Return the outcomes of notes in a file or a table."""
    from kryonix.messaging.outcomes import PostgresOutcomes, join, read_notes

    if source.startswith(DATABASE):

        async def fetch(table: PostgresOutcomes) -> list[Outcome]:
            return await table.joined(since, now, tenant=tenant)

        return _with_table(source, fetch)
    try:
        with Path(source).open("rb") as opened:
            notes = list(read_notes(lines_in(opened), counts))
    except OSError as error:
        raise InvalidChoice(f"{source!r} can't be read: {error.strerror}. Check the path") from error
    if not notes and counts["unreadable"]:
        remedy = "Give the file that senders and consumers write; outcomes are trained from as they are"
        raise InvalidChoice(f"{source}: no line is a note. {remedy}")
    return [each for each in join(notes, now, tenant=tenant, counts=counts) if each.at >= since.timestamp()]


def _with_table(address: str, work: Callable[[Any], Coroutine[Any, Any, Result]]) -> Result:
    """Run work on a table of outcomes. Raises InvalidChoice and ServiceUnreachable, without any password."""
    import psycopg

    from kryonix.messaging.outcomes import PostgresOutcomes

    check_address(address)

    async def run() -> Result:
        table = PostgresOutcomes(address)
        try:
            return await work(table)
        finally:
            await table.close()

    try:
        return run_async(run())
    except psycopg.Error as error:
        remedy = "Check that PostgreSQL runs there and that the role may use the table"
        raise ServiceUnreachable(f"the table of outcomes can't be used: {_first(error)}. {remedy}") from error


def check_address(address: str) -> None:
    """Raise InvalidChoice for a malformed address of PostgreSQL, without showing it."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(address)
    except psycopg.Error:
        problem = "the address of the outcomes is malformed; it is not shown, as it may contain a password"
        raise InvalidChoice(f"{problem}. Write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _notes(tenant: str, outcome: Outcome) -> Iterator[Any]:
    """Yield the notes that join to an outcome."""
    from kryonix.messaging.outcomes import Consumed, Published

    which = {name: getattr(outcome, name) for name in ("module", "action", "message_id")}
    known = ("at", "bytes", "device", "shape", "priority", "expires_ms", "priority_used", "compressed_bytes")
    yield Published(
        tenant=tenant,
        **which,
        **{name: getattr(outcome, name) for name in known},
        decision=outcome.decision or "rules",  # type: ignore[arg-type]
        propensity=1.0 if outcome.propensity is None else outcome.propensity,
    )
    yield Consumed(
        tenant=tenant,
        **which,
        at=outcome.at + ((outcome.waited_ms or 0) + (outcome.handled_ms or 0)) / 1000,
        waited_ms=outcome.waited_ms,
        handled_ms=outcome.handled_ms,
        attempts=outcome.attempts,
        outcome=outcome.outcome,
    )
