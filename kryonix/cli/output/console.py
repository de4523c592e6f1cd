"""Write results to standard output and everything else to standard error; ask for confirmation."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from kryonix.errors import InvalidChoice

__all__ = ["confirm", "err", "out", "print_error", "print_fields", "print_json", "refuse_without_terminal"]

_WIDE: Final = 140


def _width() -> int | None:
    """Return None for the terminal's width. Without a terminal: COLUMNS, or a width at which tables read well."""
    if sys.stdout.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else _WIDE


# No emoji: a salt or a URI may contain what looks like an emoji's name. No highlighting: it colours words of sentences.
out = Console(emoji=False, highlight=False, width=_width())
err = Console(emoji=False, highlight=False, stderr=True)


def print_json(value: Any) -> None:
    """Write a value to standard output as JSON."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_fields(values: Mapping[str, Any]) -> None:
    """Write one `name value` line per field."""
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True)
        out.print(f"[bold]{name}[/bold] {escape(text)}", soft_wrap=True)


def print_error(text: str) -> None:
    err.print(f"[bold red]error:[/bold red] {escape(text)}", soft_wrap=True)


def refuse_without_terminal(command: str) -> None:
    """Raise InvalidChoice if there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise InvalidChoice(f"`{command}` needs confirmation, and there is no terminal to prompt on. Add --yes")


def confirm(command: str, question: str) -> None:
    """Return if the user agrees; a no exits with status 2. Raises InvalidChoice without a terminal."""
    refuse_without_terminal(command)
    if not typer.confirm(question):
        err.print("Nothing was changed.")
        raise typer.Exit(2)
