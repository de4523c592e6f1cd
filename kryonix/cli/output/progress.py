"""Progress of long operations: a live line on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Self

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
from rich.table import Column

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
        # The text comes last and is cut: a long name never hides the bar, the spinner or the clock.
        text = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        first: tuple[ProgressColumn, ...] = (BarColumn(), MofNCompleteColumn()) if counted else (SpinnerColumn(),)
        self._progress = Progress(*first, TimeElapsedColumn(), text, console=console, transient=True, expand=True)
        self._task = self._progress.add_task(title, total=total, completed=completed)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Show the line while the block runs."""
        with self._progress if self._console.is_terminal else nullcontext():
            yield self

    def update(self, description: str, line: str, *, completed: int | None = None, total: int | None = None) -> None:
        """Set the live description, and the line to print without a terminal; thread-safe."""
        self._progress.update(self._task, description=description, completed=completed, total=total)
        if not self._console.is_terminal and time.monotonic() - self._printed > self._every_s:
            self._printed = time.monotonic()
            self._console.print(line)


class CountedProgress(Live):
    """The number of finished items. `noun` is what they are, in the plural."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0, *, noun: str = "tenants") -> None:
        super().__init__(console, title, counted=True, total=total, completed=done)
        self._title, self._total, self._done, self._noun = title, total, done, noun

    def advance(self, item: str, problem: str = "", title: str | None = None) -> None:
        """Count one item; thread-safe."""
        self._done += 1
        if problem:
            self._console.print(f"[red]failed[/red] {escape(item)}: {escape(problem)}", soft_wrap=True)
        title, item = title or self._title, escape(item)
        line = f"{title}: {self._done} of {self._total} {self._noun}, last {item}"
        self.update(f"{title}: {item}", line, completed=self._done)


class RunProgress(Live):
    """Show the events of a stack's run. `total` is the number of resources, if known.

    Without `failures`, those of single resources are not shown: a later run mends them, or its error names them.
    """

    def __init__(self, console: Console, title: str, total: int | None = None, *, failures: bool = True) -> None:
        super().__init__(console, title)
        self._title, self._total, self._last, self._failures = title, total, "", failures
        self._done: set[str] = set()

    def on_stage(self, text: str) -> None:
        """Print what the run does now, and begin to count anew."""
        self._done.clear()
        self._last = ""
        self._console.print(f"{escape(self._title)}: {escape(text)}", soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Show one event; thread-safe."""
        if isinstance(event, Diagnostic):
            if event.severity != "info":
                self._console.print(f"{event.severity}: {escape(event.message)}", soft_wrap=True)
            return
        if event.status == "done":
            self._done.add(event.urn)
        if event.status == "failed" and self._failures:
            # The run raises the first failure with its full text; the others mostly follow from it.
            self._console.print(f"[red]failed[/red] {event.op} {escape(event.name)}", soft_wrap=True)
        if event.op != "same":  # unchanged resources only count
            self._last = f", {event.op} {escape(event.name)}"
        of = f" of {self._total:,}" if self._total else ""
        line = f"{self._title}: {len(self._done):,}{of} resources{self._last}"
        self.update(line, line)
