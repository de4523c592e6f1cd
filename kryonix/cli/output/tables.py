"""Tables for any terminal width: less important columns are dropped first, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.topology.catalog import Catalog

__all__ = ["Column", "modules_text", "responsive_table"]

_BORDER: Final = 3
"""Width of a column's borders; the table ends with one character more."""
_MODULES_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and how it adapts to a narrow terminal."""

    name: str
    number: bool = False
    min_width: int = 0
    """Characters to which the column may shrink by folding its text; 0: never."""
    drop_priority: int = 0
    """Order in which columns are dropped, the lowest first; 0: never."""


def responsive_table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], console: Console) -> Table:
    """Return the rows as a table that fits the console, without the columns that don't fit."""
    cells = [[Text.from_markup(cell) for cell in row] for row in rows]
    widths = [_width(column, [row[index] for row in cells]) for index, column in enumerate(columns)]
    shown = list(range(len(columns)))
    dropped = sorted((i for i in shown if columns[i].drop_priority), key=lambda i: columns[i].drop_priority)
    while dropped and sum(widths[index] + _BORDER for index in shown) + 1 > console.width:
        shown.remove(dropped.pop(0))
    table = Table(title=title, min_width=min(cell_len(title), console.width))
    for index in shown:
        column = columns[index]
        table.add_column(
            column.name,
            justify="right" if column.number else "left",
            overflow="fold" if column.min_width else "ellipsis",
            no_wrap=not column.min_width,
            min_width=widths[index],
        )
    for row in cells:
        table.add_row(*(row[index] for index in shown))
    return table


def _width(column: Column, cells: Iterable[Text]) -> int:
    """Return the smallest width at which the column is readable."""
    whole = max([len(column.name), *(line.cell_len for cell in cells for line in cell.split())])
    return min(whole, max(column.min_width, len(column.name))) if column.min_width else whole


def modules_text(modules: Sequence[str], catalog: Catalog) -> str:
    """Return a short list of modules, such as `all 8` or `crm, whatsapp, … (4)`."""
    if len(modules) > _MODULES_NAMED and set(modules) == set(catalog.modules):
        return f"all {len(modules)}"
    if len(modules) > _MODULES_NAMED:
        return f"{', '.join(modules[:2])}, … ({len(modules)})"
    return ", ".join(modules)
