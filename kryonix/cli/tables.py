"""Tables that can be read however narrow the terminal is: what matters least is left out, and no figure is ever cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.topology.catalog import Catalog

__all__ = ["Column", "fitted", "modules_text"]

_BORDER: Final = 3
"""What the borders of a column take, and one character at the end of the table."""
_MODULES_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and what becomes of it where there is little room."""

    name: str
    number: bool = False
    folds: int = 0
    """The characters it may be narrowed to, by folding its text; 0 for never."""
    leaves: int = 0
    """When it is left out: the lowest first; 0 for never."""


def fitted(title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], console: Console) -> Table:
    """The rows as a table of the console's width, without the columns that there is no room for."""
    cells = [[Text.from_markup(cell) for cell in row] for row in rows]
    widths = [_width(column, [row[index] for row in cells]) for index, column in enumerate(columns)]
    shown = list(range(len(columns)))
    leaving = sorted((index for index in shown if columns[index].leaves), key=lambda index: columns[index].leaves)
    while leaving and sum(widths[index] + _BORDER for index in shown) + 1 > console.width:
        shown.remove(leaving.pop(0))
    table = Table(title=title, min_width=min(cell_len(title), console.width))
    for index in shown:
        column = columns[index]
        justify, overflow = ("right" if column.number else "left"), ("fold" if column.folds else "ellipsis")
        table.add_column(
            column.name,
            justify=justify,  # type: ignore[arg-type]  # one of rich's own words
            overflow=overflow,  # type: ignore[arg-type]
            no_wrap=not column.folds,
            min_width=widths[index],
        )
    for row in cells:
        table.add_row(*(row[index] for index in shown))
    return table


def _width(column: Column, cells: Iterable[Text]) -> int:
    """The least that a column reads well with."""
    whole = max([len(column.name), *(line.cell_len for cell in cells for line in cell.split())])
    return min(whole, max(column.folds, len(column.name))) if column.folds else whole


def modules_text(modules: Sequence[str], catalog: Catalog) -> str:
    """A tenant's modules in few words."""
    if len(modules) > _MODULES_NAMED and set(modules) == set(catalog.modules):
        return f"all {len(modules)}"
    if len(modules) > _MODULES_NAMED:
        return f"{', '.join(modules[:2])}, … ({len(modules)})"
    return ", ".join(modules)
