"""Outcomes of messages for `kryonix router`: where they are read from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from kryonix.errors import InvalidChoice
from kryonix.routing.outcomes import Outcome, read_outcomes

VARIABLE: Final = "KRYONIX_OUTCOMES"
_DATABASE: Final = ("postgresql://", "postgres://")

app = typer.Typer()

Outcomes = Annotated[
    list[str] | None,
    typer.Option(
        "--outcomes",
        metavar="FILE|ADDRESS",
        help=f"Outcomes: a file of JSON lines; repeatable. Default: {VARIABLE}.",
    ),
]


def outcomes_of(sources: list[str] | None) -> list[Outcome]:
    """Return the outcomes of all sources. Raises InvalidChoice with file and number of a wrong line."""
    for source in sources or ():
        _refuse_password(source)
    given = sources or [each for each in [os.environ.get(VARIABLE, "")] if each]
    if not given:
        raise InvalidChoice(f"there are no outcomes. Give --outcomes FILE, or set {VARIABLE}")
    return [outcome for source in given for outcome in _read(source)]


def _read(source: str) -> Iterator[Outcome]:
    try:
        with Path(source).open("rb") as opened:
            yield from read_outcomes(opened, source)
    except OSError as error:
        raise InvalidChoice(f"{source!r} can't be read: {error.strerror}. Check the path") from error


def _refuse_password(source: str) -> None:
    """Raise InvalidChoice for an address with a password: other users of this machine can read command lines."""
    if source.startswith(_DATABASE) and ("password=" in source or ":" in source.partition("://")[2].rpartition("@")[0]):
        problem = "an address with a password is not accepted here: other users of this machine can read command lines"
        raise InvalidChoice(f"{problem}. Set {VARIABLE} to it, or keep the password in ~/.pgpass")
