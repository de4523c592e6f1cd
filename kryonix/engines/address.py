"""Which stack of which project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["StackAddress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackAddress:
    """Which stack of which project, and the config file to use where it is not the stack's own."""

    project: Path
    stack: str
    config_file: Path | None = None
