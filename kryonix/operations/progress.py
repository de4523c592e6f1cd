"""A run shown while it goes, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from kryonix.local import Diagnostic, Event, Summary

__all__ = ["Display", "steps_table", "summary_line"]

_SHOWN_STEPS = 60


class Display:
    """Takes a run's events. On a terminal one line lives; elsewhere a line is written every ten seconds."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._done = 0
        self._said = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._progress.add_task(title)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    def take(self, event: Event) -> None:
        """One event of the run; called from any thread."""
        if isinstance(event, Diagnostic):
            if event.severity != "info":
                self._console.print(f"{event.severity}: {escape(event.message)}", soft_wrap=True)
            return
        self._done += event.status == "done"
        if event.status == "failed":
            # The first failure is what the run raises, and is told in full then; others mostly follow from it.
            self._console.print(f"[red]failed[/red] {event.op} {escape(event.name)}", soft_wrap=True)
        line = f"{self._title}: {self._done} resources, {event.op} {escape(event.name)}"
        self._progress.update(self._task, description=line)
        if not self._console.is_terminal and time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            self._console.print(line)


def steps_table(summary: Summary) -> Table | None:
    """What a run changed or would change, or None where that is nothing."""
    steps = [step for step in summary.steps if step.op not in ("same", "read")]
    if not steps:
        return None
    table = Table(
        title=f"{len(steps)} change(s)" + (f", the first {_SHOWN_STEPS}" if len(steps) > _SHOWN_STEPS else "")
    )
    for column in ("action", "type", "name", "changed"):
        table.add_column(column)
    for step in sorted(steps, key=lambda step: step.op not in ("delete", "replace"))[:_SHOWN_STEPS]:
        colour = {"create": "green", "delete": "red", "replace": "red"}.get(step.op, "yellow")
        short = step.type.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        table.add_row(f"[{colour}]{step.op}[/{colour}]", short, escape(step.name), ", ".join(step.changed))
    return table


def summary_line(summary: Summary) -> str:
    """A run's result in one line."""
    counts = {op: count for op, count in summary.changes.items() if count and op not in ("same", "read")}
    same = summary.changes.get("same", 0)
    if not counts:
        return f"Nothing to change: {same} resources are as they should be ({summary.seconds:.1f} s)."
    words = ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))
    return f"{words}, {same} unchanged ({summary.seconds:.1f} s)."
