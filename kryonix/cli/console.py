"""Where the command writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from rich.console import Console

__all__ = ["err", "out", "print_json"]

_WIDE: Final = 140


def _width() -> int | None:
    """The terminal's; where there is none to fit into, what COLUMNS says, or as wide as a table reads well."""
    if sys.stdout.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else _WIDE


# No emoji: a salt or a URI may well hold what reads like the name of one.
out = Console(emoji=False, width=_width())
err = Console(emoji=False, stderr=True)


def print_json(value: Any) -> None:
    """Write a value to standard output, for machines."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
