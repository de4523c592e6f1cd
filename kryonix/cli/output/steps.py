"""Steps and summaries of a stack's run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.tables import Column, responsive_table
from kryonix.engines.events import Op, Step, Summary

__all__ = [
    "FOUND",
    "changes_text",
    "converged_line",
    "findings_line",
    "findings_table",
    "step_json",
    "steps_table",
    "steps_text",
    "summary_line",
]

FOUND: Final[Mapping[Op, str]] = {"delete": "gone", "update": "changed", "create": "new"}
"""The words for a refresh's steps: it reads the live systems, and deletes or changes nothing."""

_TABLE_STEPS: Final = 60
_TEXT_STEPS: Final = 20
_COLOURS: Final = {"create": "green", "delete": "red", "replace": "red"}


def steps_table(summary: Summary, console: Console) -> Table | None:
    """Return the changes a run made or would make, or None if there are none."""
    steps = [step for step in summary.steps if step.op not in ("same", "read")]
    return _table(f"{len(steps)} change(s)", "action", steps, {}, console)


def findings_table(summary: Summary, console: Console) -> Table | None:
    """Return what a refresh found changed outside Kryonix, or None if there is nothing."""
    steps = [step for step in summary.steps if step.op in FOUND]
    return _table(f"{len(steps)} changed outside Kryonix", "found", steps, FOUND, console)


def _table(title: str, first: str, steps: list[Step], words: Mapping[Op, str], console: Console) -> Table | None:
    if not steps:
        return None
    if len(steps) > _TABLE_STEPS:
        title += f", the first {_TABLE_STEPS}; --json prints all"
    ordered = sorted(steps, key=lambda step: step.op not in ("delete", "replace"))[:_TABLE_STEPS]
    columns = (Column(first), Column("type"), Column("name", min_width=24), Column("changed", min_width=14))
    return responsive_table(title, columns, (_row(step, words.get(step.op, step.op)) for step in ordered), console)


def _row(step: Step, word: str) -> list[str]:
    colour = _COLOURS.get(step.op, "yellow")
    short = step.type.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return [f"[{colour}]{word}[/{colour}]", short, escape(step.name), escape(", ".join(step.changed))]


def steps_text(steps: Sequence[Step], words: Mapping[Op, str] | None = None) -> str:
    """Return one line per step, for a cell of a table."""
    lines = [
        f"{(words or {}).get(step.op, step.op)} {step.name}" + (f" ({', '.join(step.changed)})" if step.changed else "")
        for step in steps[:_TEXT_STEPS]
    ]
    if len(steps) > _TEXT_STEPS:
        lines.append(f"and {len(steps) - _TEXT_STEPS} more")
    return escape("\n".join(lines))


def step_json(step: Step) -> dict[str, Any]:
    return {"op": step.op, "type": step.type, "name": step.name, "changed": list(step.changed)}


def changes_text(changes: Mapping[str, int]) -> str:
    """Return counts such as `2 create, 1 delete`; empty if nothing changed."""
    return ", ".join(f"{n} {op}" for op, n in sorted(changes.items()) if n and op not in ("same", "read"))


def summary_line(summary: Summary) -> str:
    """Return a run's result in one line."""
    same = summary.changes.get("same", 0)
    if not summary.changed:
        return (
            f"No changes. {same} resources match the recorded state ({summary.seconds:.1f} s). Broker and registry "
            "answer; `kryonix refresh` compares the state with them."
        )
    return f"{changes_text(summary.changes)}, {same} unchanged ({summary.seconds:.1f} s)."


def converged_line(summary: Summary) -> str:
    """Return the result, in one line, of a run that refreshed the state first."""
    if summary.changed:
        return summary_line(summary)
    return f"No changes. {summary.changes.get('same', 0)} resources match the broker and the registry."


def findings_line(summary: Summary) -> str:
    """Return a refresh's result in one line."""
    counts = {word: count for op, word in FOUND.items() if (count := summary.changes.get(op, 0))}
    same = sum(count for op, count in summary.changes.items() if op not in FOUND and op != "read")
    if not counts:
        return f"No changes outside Kryonix. {same} resources match the state ({summary.seconds:.1f} s)."
    total, words = sum(counts.values()), ", ".join(f"{count} {word}" for word, count in counts.items())
    noun = "resource" if total == 1 else "resources"
    return (
        f"{total} {noun} changed outside Kryonix ({words}), {same} unchanged ({summary.seconds:.1f} s). "
        f"State updated; run `kryonix up` to restore {'it' if total == 1 else 'them'}."
    )
