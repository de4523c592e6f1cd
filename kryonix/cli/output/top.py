"""The table of `kryonix top`, and its keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from kryonix.cli.output.tables import Cell, Column, responsive_table
from kryonix.monitoring.overview import SORTS, Row, arranged, row_json
from kryonix.monitoring.traffic import Traffic

_NEAR, _FULL = 0.8, 1.0
_FRAME: Final = 5
"""Lines of the table besides its rows: title, heading and borders."""
_HELP: Final = "s sort  r reverse  f filter  j/k page  q quit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """All rows at a moment, and what could not be read."""

    at: datetime
    rows: Sequence[Row] = ()
    cells: Mapping[str, datetime | None] = field(default_factory=dict)
    """When each cell's broker was last read."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What does not answer now, and why: `registry`, `Prometheus` or `cell NAME`."""


@dataclass(slots=True, kw_only=True)
class Choice:
    """What to show, and how. Keys change it."""

    sort: str = "depth"
    reverse: bool = False
    wanted: str = ""
    page: int = 0
    typing: str | None = None
    """The filter being typed, if any."""
    ended: bool = False

    def press(self, key: str) -> None:
        """Apply a key; while a filter is typed, keys are its text."""
        if self.typing is not None:
            self._type(key)
            return
        sorts = list(SORTS)
        match key:
            case "s":
                self.sort, self.page = sorts[(sorts.index(self.sort) + 1) % len(sorts)], 0
            case "r":
                self.reverse, self.page = not self.reverse, 0
            case "f" | "/":
                self.typing = self.wanted
            case "\x1b":
                self.wanted, self.page = "", 0
            case "j" | " ":
                self.page += 1
            case "k":
                self.page = max(self.page - 1, 0)
            case "q" | "\x04":
                self.ended = True

    def _type(self, key: str) -> None:
        text = self.typing or ""
        match key:
            case "\r" | "\n":
                self.wanted, self.typing, self.page = text, None, 0
            case "\x1b":
                self.typing = None
            case "\x7f" | "\x08":
                self.typing = text[:-1]
            case _ if key.isprintable():
                self.typing = text + key


def wait_text(row: Row) -> str:
    """Return the wait with its unit; `~` marks an estimate, `∞` that messages wait and none is delivered."""
    if row.wait_s is None:
        return "?"
    if math.isinf(row.wait_s):
        return "∞"
    mark, wait = "~" if row.wait_source == "estimate" else "", row.wait_s
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if wait >= 2 * seconds:
            return f"{mark}{wait / seconds:.0f} {unit}"
    return f"{mark}{wait:.0f} s" if wait >= 10 or wait == 0 else f"{mark}{wait:.2g} s"


def _of(value: Callable[[Traffic], Cell]) -> Callable[[Row], Cell]:
    return lambda row: "?" if row.traffic is None else value(row.traffic)


def _fullest(row: Row) -> Text:
    if row.fullest is None:
        return Text("?")
    name, share = row.fullest
    return Text(f"{share:.0%} {name}", "red" if share >= _FULL else "yellow" if share >= _NEAR else "")


def _consumers(row: Row) -> Text:
    if row.traffic is None:
        return Text("?")
    nobody = row.traffic.ready > 0 and not row.traffic.consumers
    return Text(f"{row.traffic.consumers:,}", "red" if nobody else "")


def _dead(row: Row) -> Text:
    return Text("?") if row.traffic is None else Text(f"{row.traffic.dead:,}", "red" if row.traffic.dead else "")


_COLUMNS: Final[tuple[Column[Row], ...]] = (
    Column("tenant", lambda row: row.tenant),
    Column("cell", lambda row: row.cell, drop_priority=1),
    Column("plan", lambda row: row.plan, drop_priority=2),
    Column("state", lambda row: Text(row.state, "" if row.state == "active" else "yellow"), drop_priority=5),
    Column("depth", _of(lambda traffic: traffic.depth), number=True),
    Column("dead", _dead, number=True, drop_priority=6),
    Column("in/s", _of(lambda traffic: f"{traffic.publish_rate:,.1f}"), number=True, drop_priority=7),
    Column("out/s", _of(lambda traffic: f"{traffic.deliver_rate:,.1f}"), number=True, drop_priority=8),
    Column("wait", wait_text, number=True, drop_priority=9),
    Column("consumers", _consumers, number=True, drop_priority=4),
    Column("connections", _of(lambda traffic: traffic.connections), number=True, drop_priority=3),
    Column("fullest limit", _fullest, drop_priority=10),
)


def frame(reading: Reading, choice: Choice, console: Console, *, live: bool) -> Group:
    """Return the table, with what can't be read and, on a live screen, the keys. A live table fits the screen."""
    rows = arranged(reading.rows, choice.sort, choice.reverse, choice.wanted)
    notes = _notes(reading)
    height = max(console.height - _FRAME - len(notes) - 1, 1) if live else max(len(rows), 1)
    pages = max(-(-len(rows) // height), 1)
    choice.page = min(choice.page, pages - 1)
    shown = rows[choice.page * height : (choice.page + 1) * height]
    table = _table(shown, _title(reading, choice, len(rows), pages), console)
    if not live:
        return Group(table, *notes)
    keys = _HELP if choice.typing is None else f"filter: {choice.typing}▏  Enter applies, Esc leaves"
    keyed = Text(keys, "dim" if choice.typing is None else "bold", no_wrap=True, overflow="ellipsis")
    return Group(table, *(_cut(note) for note in notes), keyed)


def _table(rows: Iterable[Row], title: str, console: Console) -> Table:
    shown = list(rows)
    table = responsive_table(title, _COLUMNS, shown, console)
    for line, row in zip(table.rows, shown, strict=True):
        line.style = "dim" if row.old else None
    return table


def _title(reading: Reading, choice: Choice, count: int, pages: int) -> str:
    total = len(reading.rows)
    tenants = f"{total} tenant(s)" if count == total else f"{count} of {total} tenant(s), filter {choice.wanted!r}"
    order = f"by {choice.sort}" + (", reversed" if choice.reverse else "")
    page = f", page {choice.page + 1} of {pages}" if pages > 1 else ""
    return f"{reading.at:%H:%M:%S}  {tenants} {order}{page}"


def _notes(reading: Reading) -> list[Text]:
    """Return a line per source that does not answer."""
    lines = []
    for name, problem in reading.problems.items():
        read_at = reading.cells.get(name.removeprefix("cell "))
        since = f" (figures of {read_at:%H:%M:%S})" if read_at else ""
        lines.append(Text(f"{name}{since}: {problem}", "red"))
    return lines


def _cut(note: Text) -> Text:
    note.no_wrap, note.overflow = True, "ellipsis"
    return note


def reading_json(reading: Reading, choice: Choice) -> dict[str, Any]:
    """Return a reading as JSON."""
    return {
        "at": reading.at,
        "tenants": [row_json(row) for row in arranged(reading.rows, choice.sort, choice.reverse, choice.wanted)],
        "cells": {name: {"read_at": read_at} for name, read_at in reading.cells.items()},
        "problems": dict(reading.problems),
    }
