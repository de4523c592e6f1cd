"""The help of every command at 80 columns: whole option names, and paragraphs broken only at the right margin."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from typer.testing import CliRunner

from kryonix.cli.app import COMMANDS, app, load_command

WIDTH = 80
MARGIN = 1
"""Columns left and right of a paragraph."""


def commands_below(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_below((*path, name), each)


def option_names(command: Any) -> list[str]:
    """Return the names of a command's options, without hidden ones."""
    options = [each for each in getattr(command, "params", []) if not getattr(each, "hidden", False)]
    return [name for each in options for name in (*each.opts, *each.secondary_opts) if name.startswith("-")]


def shown(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)})
    assert result.exit_code == 0, result.output
    return result.output


def paragraphs(text: str) -> list[list[str]]:
    """Return the lines of each paragraph above the boxes."""
    above = text.partition("╭")[0]
    blocks = "\n".join(line.strip() for line in above.splitlines()).split("\n\n")
    return [block.strip().splitlines() for block in blocks]


def test_the_help_of_every_command_fits_80_columns() -> None:
    topics = [(name, load_command(name)) for group in COMMANDS.values() for name in group]
    every = [found for name, command in topics for found in commands_below((name,), command)]
    assert len(every) > 40
    problems: list[str] = []
    for path, command in [((), None), *every]:
        text, name = shown(path), " ".join(("kryonix", *path))
        problems += [f"{name}: too wide: {line}" for line in text.splitlines() if len(line) > WIDTH]
        problems += [f"{name}: a switch has a type"] if "<bool>" in text else []
        problems += [f"{name}: cut: {option}" for option in option_names(command) if option not in text.split()]
        problems += [
            f"{name}: broken early: {line}"
            for lines in paragraphs(text)
            for line, following in pairwise(lines)
            if len(line) + 1 + len(following.split()[0]) <= WIDTH - 2 * MARGIN
        ]
    assert problems == []
