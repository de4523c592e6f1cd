"""The words of the report: counts, lists of names, and values before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kryonix.review.differences import Field
from kryonix.review.escaping import code
from kryonix.topology.comparison import Action
from kryonix.topology.objects import KINDS

__all__ = ["DONE", "counted", "names", "step", "value_or_none"]

DONE: Final[dict[Action, str]] = {
    "add": "added",
    "remove": "deleted",
    "replace": "replaced",
    "change": "changed in place",
}
_PLURALS: Final = {kind.name: kind.plural for kind in KINDS.values()}


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"


def names(values: Sequence[str], most: int | None) -> str:
    """A list of values as code, cut where it is too long."""
    shown = ", ".join(code(value) for value in (values if most is None else values[:most]))
    return shown if most is None or len(values) <= most else f"{shown} and {len(values) - most:,} more"


def step(field: Field) -> str:
    return f"{value_or_none(field.before)} → {value_or_none(field.after)}"


def value_or_none(value: Any) -> str:
    return "none" if value is None else code(value)
