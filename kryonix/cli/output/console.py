"""Write results to standard output or private files, and the rest to standard error; ask for confirmation."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console, RenderableType
from rich.markup import escape

from kryonix.errors import InvalidChoice

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
    json.dump(value, sys.stdout, indent=2, default=plain)
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """Return a moment in ISO format, and a dataclass as a mapping, for JSON. Raises TypeError for anything else."""
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def print_result(value: Any, shown: RenderableType | Iterable[RenderableType | None], json_output: bool) -> None:
    """Write a result to standard output: the value as JSON, or the tables and sentences about it."""
    if json_output:
        print_json(value)
        return
    print_report(shown, out)


def print_report(shown: RenderableType | Iterable[RenderableType | None], console: Console) -> None:
    """Print the tables and sentences about a result."""
    for each in [shown] if isinstance(shown, str) or not isinstance(shown, Iterable) else shown:
        if each is not None:
            console.print(each, soft_wrap=isinstance(each, str))


def foreign(text: str) -> str:
    """Return a text from elsewhere for printing: it is no markup, and moves no cursor."""
    return escape("".join(each if each.isprintable() else f"{each!a}"[1:-1] for each in text))


def fields_text(values: Mapping[str, Any]) -> str:
    """Return one `name value` line per field."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True)
        for name, value in values.items()
    }
    return "\n".join(f"[bold]{name}[/bold] {escape(text)}" for name, text in texts.items())


def print_error(text: str) -> None:
    err.print(f"[bold red]error:[/bold red] {escape(text)}", soft_wrap=True)


def refuse_without_terminal(command: str) -> None:
    """Raise InvalidChoice if there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise InvalidChoice(f"`{command}` needs confirmation, and there is no terminal to prompt on. Add --yes")


def confirm(command: str, question: str) -> None:
    """Return if the user agrees; a no exits with status 2, Ctrl-C with 130. Raises InvalidChoice without a terminal."""
    refuse_without_terminal(command)
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        err.print("\nNothing was changed.")
        raise typer.Exit(130) from None
    if not agreed:
        err.print("Nothing was changed.")
        raise typer.Exit(2)


def check_target(file: Path) -> None:
    """Raise InvalidChoice if secrets can't be written there: only a regular file of the user, unreadable to others.

    A file readable by others is refused instead of tightened: somebody may rely on reading it.
    """
    try:
        found = file.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(file, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidChoice(f"--output {str(file)!r} is not a regular file. Give a file, or omit --output")
    if found.st_uid != os.geteuid():
        raise InvalidChoice(f"--output {str(file)!r} belongs to another user. Give a file of your own")
    if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
        problem = f"--output {str(file)!r} exists with mode {mode:03o}: others can read it"
        raise InvalidChoice(f"{problem}. Run `chmod 600 {file}`, or give another file")


def write_private(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with mode 600, replacing the file atomically."""
    check_target(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 600, and new
    except OSError as error:
        raise unwritable(file, error) from error
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump(content, opened, indent=2, ensure_ascii=False)
            opened.write("\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
    except OSError as error:
        raise unwritable(file, error) from error
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def check_output(file: Path, option: str) -> None:
    """Raise InvalidChoice if a result without secrets can't be written there. `option` names it."""
    try:
        if file.exists() and not file.is_file():
            raise InvalidChoice(f"{option} {str(file)!r} is not a regular file. Give a file")
        with tempfile.NamedTemporaryFile(prefix=f".{file.name}.", dir=file.resolve().parent):
            return
    except RuntimeError as error:
        raise InvalidChoice(f"{option} {str(file)!r} is a loop of symbolic links. Give another file") from error
    except OSError as error:
        raise unwritable(file, error, option) from error


def write_output(file: Path, content: bytes, option: str) -> None:
    """Write a result without secrets, replacing the file atomically. Raises InvalidChoice."""
    check_output(file, option)
    target = file.resolve()  # a link stays
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(target)
    except OSError as error:
        raise unwritable(file, error, option) from error
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def unwritable(file: Path, error: OSError, option: str = "--output") -> InvalidChoice:
    """Return the error for an option's file that can't be written."""
    return InvalidChoice(f"{option} {str(file)!r} can't be written: {error.strerror}. Give another file")
