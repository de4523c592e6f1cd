"""Tables for any terminal width, and the steps and summaries of a stack's run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.engines.events import Op, Step, Summary
from kryonix.topology.catalog import Catalog

Item = TypeVar("Item")
Cell = str | int | Text | None

_BORDER: Final = 3
"""Width of a column's borders; the table ends with one character more."""
_MODULES_NAMED: Final = 3
FOUND: Final[Mapping[Op, str]] = {"delete": "gone", "update": "changed", "create": "new"}
"""The words for a refresh's steps: it reads the live systems, and deletes or changes nothing."""

_TABLE_STEPS: Final = 60
_TEXT_STEPS: Final = 20
_COLOURS: Final = {"create": "green", "delete": "red", "replace": "red"}


@dataclass(frozen=True, slots=True)
class Column(Generic[Item]):
    """A column: its heading, what it shows of an item, and how it adapts to a narrow terminal."""

    name: str
    cell: Callable[[Item], Cell]
    """A string is no markup: colours need a Text. None, for a number that is not known, is shown as `?`."""
    number: bool = False
    min_width: int = 0
    """Characters to which the column may shrink by folding its text; 0: never."""
    drop_priority: int = 0
    """Order in which columns are dropped, the lowest first; 0: never."""


def responsive_table(title: str, columns: Sequence[Column[Item]], items: Iterable[Item], console: Console) -> Table:
    """Return a table of one row per item that fits the console: some columns are dropped, and no number is ever cut."""
    cells = [[_text(column.cell(item)) for column in columns] for item in items]
    whole = [_width(column, [row[index] for row in cells]) for index, column in enumerate(columns)]
    least = [min(w, max(c.min_width, len(c.name))) if c.min_width else w for c, w in zip(columns, whole, strict=True)]
    shown = list(range(len(columns)))
    dropped = sorted((i for i in shown if columns[i].drop_priority), key=lambda i: columns[i].drop_priority)
    while dropped and _table_width(least, shown) > console.width:
        shown.remove(dropped.pop(0))
    widths = list(least)
    for _ in range(console.width - _table_width(least, shown)):  # rich's own shares may exceed the width
        if folded := [index for index in shown if widths[index] < whole[index]]:
            widths[min(reversed(folded), key=widths.__getitem__)] += 1
    table = Table(title=title, min_width=min(cell_len(title), console.width))
    for index in shown:
        column = columns[index]
        table.add_column(
            column.name,
            justify="right" if column.number else "left",
            overflow="fold" if column.min_width else "ellipsis",
            no_wrap=not column.min_width,
            width=widths[index],
        )
    for row in cells:
        table.add_row(*(row[index] for index in shown))
    return table


def figure(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell if isinstance(cell, str) else figure(cell))


def _width(column: Column[Item], cells: Iterable[Text]) -> int:
    """Return the width at which the column folds no text."""
    return max([len(column.name), *(line.cell_len for cell in cells for line in cell.split())])


def _table_width(widths: Sequence[int], shown: Iterable[int]) -> int:
    return sum(widths[index] + _BORDER for index in shown) + 1


def modules_text(modules: Sequence[str], catalog: Catalog) -> str:
    """Return a short list of modules, such as `all 8` or `crm, whatsapp, … (4)`."""
    if len(modules) > _MODULES_NAMED and set(modules) == set(catalog.modules):
        return f"all {len(modules)}"
    if len(modules) > _MODULES_NAMED:
        return f"{', '.join(modules[:2])}, … ({len(modules)})"
    return ", ".join(modules)


def steps_table(
    steps: Sequence[Step],
    console: Console,
    words: Mapping[Op, str] | None = None,
    *,
    title: str = "",
    every: bool = False,
) -> Table | None:
    """Return the changes a run made or would make, or with FOUND what a refresh found; None if there are none."""
    steps = [step for step in steps if (step.op in words if words else step.op not in ("same", "read"))]
    if not steps:
        return None
    title = title or f"{len(steps)} {'changed outside Kryonix' if words else 'change(s)'}"
    most = len(steps) if every else _TABLE_STEPS
    if len(steps) > most:
        title += f", the first {most}; --json prints all"
    shown = sorted(steps, key=lambda step: step.op not in ("delete", "replace"))[:most]
    columns: tuple[Column[Step], ...] = (
        Column("found" if words else "action", lambda step: Text(_word(step, words), _COLOURS.get(step.op, "yellow"))),
        Column("type", lambda step: step.type.rsplit("/", 1)[-1].rsplit(":", 1)[-1]),
        Column("name", lambda step: step.name, min_width=24),
        Column("changed", lambda step: ", ".join(step.changed), min_width=14),
    )
    return responsive_table(title, columns, shown, console)


def steps_text(steps: Sequence[Step], words: Mapping[Op, str] | None = None) -> str:
    """Return one line per step, for a cell of a table."""
    lines = [
        f"{_word(step, words)} {step.name}" + (f" ({', '.join(step.changed)})" if step.changed else "")
        for step in steps[:_TEXT_STEPS]
    ]
    if len(steps) > _TEXT_STEPS:
        lines.append(f"and {len(steps) - _TEXT_STEPS} more")
    return "\n".join(lines)


def _word(step: Step, words: Mapping[Op, str] | None) -> str:
    return (words or {}).get(step.op, step.op)


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
