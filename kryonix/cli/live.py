"""What is shown while something long goes on: alive on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["Live"]


class Live:
    """One line that lives while it is `running`. Where there is no terminal, a line is written every `every_s` seconds.

    With `counted` it shows how many are through, of `total` where that is known; else only that it goes on.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        *,
        counted: bool = False,
        total: int | None = None,
        completed: int = 0,
        every_s: float = 10.0,
    ) -> None:
        self._console = console
        self._every_s = every_s
        self._said = time.monotonic()
        text, elapsed = TextColumn("{task.description}"), TimeElapsedColumn()
        columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), text, elapsed)
        if counted:
            columns = (text, BarColumn(), MofNCompleteColumn(), elapsed)
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(title, total=total, completed=completed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show it while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    def update(self, description: str, line: str, *, completed: int | None = None, total: int | None = None) -> None:
        """What the living line says, and the line to write instead of it; called from any thread."""
        self._progress.update(self._task, description=description, completed=completed, total=total)
        if not self._console.is_terminal and time.monotonic() - self._said > self._every_s:
            self._said = time.monotonic()
            self._console.print(line)
