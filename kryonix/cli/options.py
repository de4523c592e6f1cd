"""Options that many commands have."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

__all__ = ["EngineName", "EngineOption", "Json", "Platform", "Yes"]


class EngineName(str, Enum):
    """What runs the program."""

    auto = "auto"
    pulumi = "pulumi"
    local = "local"


EngineOption = Annotated[EngineName, typer.Option("--engine", help="auto takes the Pulumi CLI where it is on PATH.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Platform = Annotated[
    str, typer.Option("--stack", "-s", help="The platform's stack with the registry; without cells.yaml, the one cell.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
