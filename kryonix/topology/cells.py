"""Cells: brokers for tenants, each with the platform stack behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from kryonix.topology.catalog import Size
from kryonix.topology.document import Model, parse, validated
from kryonix.topology.errors import InvalidInput, Problem, nearest

CELLS_FILE: Final = "cells.yaml"
"""A project's list of cells. A project without this file has one cell, `main`."""

_NAME: Final = r"[a-z][a-z0-9-]{0,39}"
_PLATFORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*){2}")


class Cell(Model):
    """One broker with its registry, created by one platform stack."""

    platform: str = Field(description="The platform's stack, as organization/kryonix/NAME")
    registry: str = Field("", description="The stack whose registry has the tenants' rows (default: the platform)")
    protect: bool = Field(False, description="Make Pulumi refuse to delete vhosts and queues; true for production")
    max_tenants: int | None = Field(None, ge=1, description="Maximum number of tenants (default: no limit)")
    max_queues: int | None = Field(None, ge=1, description="Maximum number of queues of all its tenants together")
    max_connections: int | None = Field(None, ge=1, description="Maximum sum of its tenants' connection limits")
    max_bytes: Size | None = Field(None, description="Maximum size of all message bodies, every queue full; as 200GiB")
    open: bool = Field(True, description="Place new tenants here; false keeps only the present ones")

    @field_validator("platform", "registry")
    @classmethod
    def _full(cls, value: str, info: ValidationInfo) -> str:
        if (value or info.field_name == "platform") and not _PLATFORM.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not a platform stack. Write organization/kryonix/NAME")
        return value

    @property
    def stack(self) -> str:
        """Return the platform stack's name, without organization and project."""
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
            raise ValueError(f"{wrong[0][:80]!r} is not a valid cell name ({rule})")
        return value

    def cell(self, name: str) -> Cell:
        """Return a cell by name. Raises InvalidInput with the existing names."""
        if name not in self.cells:
            message = f"unknown cell {name[:80]!r}; {nearest(name, self.cells)}"
            raise InvalidInput([Problem(CELLS_FILE, None, "cell", message)])
        return self.cells[name]


def parse_cells(content: bytes, file: str) -> Cells:
    """Return the cells of a cells.yaml. Raises InvalidInput with every problem of the file."""
    return validated(Cells, parse(content, file))


def single_cell(stack: str) -> Cells:
    """Return the cells of a project without a cells.yaml: `main`, on one platform stack."""
    return Cells(cells={"main": Cell(platform=f"organization/kryonix/{stack}")})
