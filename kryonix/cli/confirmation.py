"""The question before something is changed: asked on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from kryonix.cli.console import err
from kryonix.errors import InvalidChoice

__all__ = ["confirm"]


def confirm(command: str, question: Callable[[], str]) -> None:
    """Return where the answer is yes; `question` is called only where somebody can be asked.

    A no ends the command, with status 2. Raises InvalidChoice where nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise InvalidChoice(
            f"`{command}` was not confirmed: here is no terminal to ask on. Add --yes to run it without asking"
        )
    if not typer.confirm(question()):
        err.print("Nothing was changed.")
        raise typer.Exit(2)
