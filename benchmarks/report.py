"""The report of a benchmark: figures, bounds, and the exit status."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """A value and its maximum."""

    name: str
    value: float
    most: float

    @property
    def reached(self) -> bool:
        return self.value <= self.most


@dataclass(slots=True)
class Report:
    """Figures by name with their unit in the name (`_s`, `_mib`), and the bounds computed from them."""

    title: str
    figures: Mapping[str, float]
    bounds: list[Bound] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        return all(bound.reached for bound in self.bounds)

    def print(self) -> int:
        """Print the report, as JSON with `--json`. Return the exit status: 0 when all bounds are reached, else 1."""
        if "--json" in sys.argv:
            print(json.dumps(self._plain(), indent=2))
        else:
            self._tables(Console())
        return 0 if self.reached else 1

    def _plain(self) -> dict[str, object]:
        return {
            "benchmark": self.title,
            "machine": _machine(),
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "bounds": [
                {"name": b.name, "value": round(b.value, 4), "most": b.most, "reached": b.reached} for b in self.bounds
            ],
            "reached": self.reached,
        }

    def _tables(self, console: Console) -> None:
        figures = Table("figure", "value", title=f"{self.title}, {_machine()}")
        for name, value in self.figures.items():
            figures.add_row(name, f"{value:.3f}")
        bounds = Table("bound", "value", "at most", "reached")
        for bound in self.bounds:
            bounds.add_row(bound.name, f"{bound.value:.3f}", f"{bound.most:g}", "yes" if bound.reached else "NO")
        console.print(figures, bounds)


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
