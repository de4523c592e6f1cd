"""Where the command writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

__all__ = ["err", "out", "print_json"]

# No emoji: a salt or a URI may well hold what reads like the name of one.
# Where there is no terminal to fit into, a table is as wide as it reads well.
out = Console(emoji=False, width=None if sys.stdout.isatty() else 140)
err = Console(emoji=False, stderr=True)


def print_json(value: Any) -> None:
    """Write a value to standard output, for machines."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
