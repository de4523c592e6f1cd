"""Progress of long operations: a live line on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from kryonix.engines.events import Diagnostic, Event


class Live:
    """One live line while the block of `running` runs. Without a terminal, one line every `every_s` seconds.

    `counted` shows a bar of `completed` out of `total` instead of a spinner.
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
        self._printed = time.monotonic()
        text, elapsed = TextColumn("{task.description}"), TimeElapsedColumn()
        columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), text, elapsed)
        if counted:
            columns = (text, BarColumn(), MofNCompleteColumn(), elapsed)
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(title, total=total, completed=completed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the line while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    def update(self, description: str, line: str, *, completed: int | None = None, total: int | None = None) -> None:
        """Set the live description, and the line to print without a terminal; thread-safe."""
        self._progress.update(self._task, description=description, completed=completed, total=total)
        if not self._console.is_terminal and time.monotonic() - self._printed > self._every_s:
            self._printed = time.monotonic()
            self._console.print(line)


class RunProgress(Live):
    """Show the events of a stack's run."""

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console, title)
        self._title, self._done = title, 0

    def on_event(self, event: Event) -> None:
        """Show one event; thread-safe."""
        if isinstance(event, Diagnostic):
            if event.severity != "info":
                self._console.print(f"{event.severity}: {escape(event.message)}", soft_wrap=True)
            return
        self._done += event.status == "done"
        if event.status == "failed":
            # The run raises the first failure with its full text; the others mostly follow from it.
            self._console.print(f"[red]failed[/red] {event.op} {escape(event.name)}", soft_wrap=True)
        line = f"{self._title}: {self._done} resources, {event.op} {escape(event.name)}"
        self.update(line, line)
