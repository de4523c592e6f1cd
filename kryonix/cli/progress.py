"""A run shown while it goes, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.live import Live
from kryonix.cli.tables import Column, fitted
from kryonix.engines.events import Op, Step
from kryonix.engines.local import Diagnostic, Event, Summary

__all__ = ["FOUND", "Display", "converged_line", "findings_line", "findings_table", "steps_table", "summary_line"]

FOUND: Final[Mapping[Op, str]] = {"delete": "gone", "update": "changed", "create": "new"}
"""What a refresh's steps say of the world: it deletes and changes nothing itself."""

_SHOWN_STEPS: Final = 60


class Display:
    """Takes a run's events, and shows how far it is while it is `running`."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._done = 0
        self._live = Live(console, title)
        self.running = self._live.running

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
        self._live.update(line, line)


def steps_table(summary: Summary, console: Console) -> Table | None:
    """What a run changed or would change, or None where that is nothing."""
    steps = [step for step in summary.steps if step.op not in ("same", "read")]
    return _table(f"{len(steps)} change(s)", "action", steps, {}, console)


def findings_table(summary: Summary, console: Console) -> Table | None:
    """What a refresh found in the world to be otherwise than it was left, or None where that is nothing."""
    steps = [step for step in summary.steps if step.op in FOUND]
    return _table(f"{len(steps)} found otherwise than left", "found", steps, FOUND, console)


def _table(title: str, first: str, steps: list[Step], words: Mapping[Op, str], console: Console) -> Table | None:
    if not steps:
        return None
    if len(steps) > _SHOWN_STEPS:
        title += f", the first {_SHOWN_STEPS}: --json has all"
    ordered = sorted(steps, key=lambda step: step.op not in ("delete", "replace"))[:_SHOWN_STEPS]
    columns = (Column(first), Column("type"), Column("name", folds=24), Column("changed", folds=14))
    return fitted(title, columns, (_row(step, words.get(step.op, step.op)) for step in ordered), console)


def _row(step: Step, word: str) -> list[str]:
    colour = {"create": "green", "delete": "red", "replace": "red"}.get(step.op, "yellow")
    short = step.type.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return [f"[{colour}]{word}[/{colour}]", short, escape(step.name), escape(", ".join(step.changed))]


def summary_line(summary: Summary) -> str:
    """A run's result in one line."""
    counts = {op: count for op, count in summary.changes.items() if count and op not in ("same", "read")}
    same = summary.changes.get("same", 0)
    if not counts:
        return (
            f"Nothing to change: the state of {same} resources is what the program says ({summary.seconds:.1f} s). "
            "Broker and registry answer; `kryonix refresh` reads whether all of it is there."
        )
    words = ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))
    return f"{words}, {same} unchanged ({summary.seconds:.1f} s)."


def converged_line(summary: Summary) -> str:
    """What a run that has read the world first came to, in one line."""
    if summary.changed:
        return summary_line(summary)
    same = summary.changes.get("same", 0)
    return f"Nothing to change: {same} resources are as they should be, read from broker and registry."


def findings_line(summary: Summary) -> str:
    """A refresh's result in a line or two."""
    counts = {word: count for op, word in FOUND.items() if (count := summary.changes.get(op, 0))}
    same = sum(count for op, count in summary.changes.items() if op not in FOUND and op != "read")
    if not counts:
        return f"Nothing was changed by hand: {same} resources are as they were left ({summary.seconds:.1f} s)."
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    return (
        f"{words}, {same} as they were left ({summary.seconds:.1f} s). This was only written down. "
        "Run `kryonix up` to repair it: what is gone is made again."
    )
