"""The brokers that tenants are placed on: a cell is a platform's stack, and what runs there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from kryonix.topology.catalog import Size
from kryonix.topology.document import parse
from kryonix.topology.errors import InvalidInput, Problem, nearest
from kryonix.topology.model import Model, validate

__all__ = ["CELLS_FILE", "Cell", "Cells", "parse_cells", "single_cell"]

CELLS_FILE: Final = "cells.yaml"
"""Where a project lists its cells. A project without the file has one, `main`."""

_NAME: Final = r"[a-z][a-z0-9-]{0,39}"
_PLATFORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*){2}")


class Cell(Model):
    """One broker with its registry, made by one platform's stack."""

    platform: str = Field(description="The platform's stack, as organization/kryonix/NAME")
    registry: str = Field("", description="The stack whose registry gets the rows; empty for the platform's own")
    protect: bool = Field(False, description="Let Pulumi refuse to delete vhosts and queues; true for production")
    max_tenants: int | None = Field(None, ge=1, description="Tenants that may be placed here; left out, any number")
    max_queues: int | None = Field(None, ge=1, description="Queues that all its tenants together may have")
    max_connections: int | None = Field(
        None, ge=1, description="Connections that the plans of all its tenants together may allow"
    )
    max_bytes: Size | None = Field(
        None, description="Message bodies that the queues of all its tenants together may hold, as in 200GiB"
    )
    open: bool = Field(True, description="Whether new tenants are placed here; those that are here stay")

    @field_validator("platform", "registry")
    @classmethod
    def _full(cls, value: str, info: ValidationInfo) -> str:
        if (value or info.field_name == "platform") and not _PLATFORM.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is no stack of a platform. Write organization/kryonix/NAME")
        return value

    @property
    def stack(self) -> str:
        """The platform's stack, without organization and project."""
        return self.platform.rsplit("/", 1)[-1]


class Cells(Model):
    """Every cell, by name."""

    cells: Mapping[str, Cell] = Field(min_length=1)

    @field_validator("cells")
    @classmethod
    def _named(cls, value: Mapping[str, Cell]) -> Mapping[str, Cell]:
        wrong = [name for name in value if not re.fullmatch(_NAME, name)]
        if wrong:
            rule = "a lower-case letter, then up to 39 lower-case letters, digits and hyphens"
            raise ValueError(f"{wrong[0][:80]!r} is no name of a cell: {rule}")
        return value

    def cell(self, name: str) -> Cell:
        """A cell by its name. Raises InvalidInput, with the names that there are."""
        if name not in self.cells:
            message = f"unknown cell {name[:80]!r}; {nearest(name, self.cells)}"
            raise InvalidInput([Problem(CELLS_FILE, None, "cell", message)])
        return self.cells[name]


def parse_cells(content: bytes, file: str) -> Cells:
    """The cells of a cells.yaml. Raises InvalidInput with every problem of the file."""
    cells, problems = validate(Cells, parse(content, file))
    if cells is None or problems:
        raise InvalidInput(problems)
    return cells


def single_cell(stack: str) -> Cells:
    """What a project without a cells.yaml has: the cell `main` on the platform of one stack."""
    return Cells(cells={"main": Cell(platform=f"organization/kryonix/{stack}")})
