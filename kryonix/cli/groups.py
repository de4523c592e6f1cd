"""The classes of commands and groups: their help shows no type beside a switch, which takes no value."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _PlainSwitches:
    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, those without a value with an empty type."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in found:
            if getattr(each, "is_flag", False) and each.metavar is None:
                each.metavar = ""
        return found


class Command(_PlainSwitches, TyperCommand):
    """A command."""


class Group(_PlainSwitches, TyperGroup):
    """A group of commands."""


def group(name: str, text: str) -> typer.Typer:
    """Return a group to register commands with; without a command it shows its help."""
    return typer.Typer(name=name, cls=Group, no_args_is_help=True, add_completion=False, help=text)
