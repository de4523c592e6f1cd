"""Which credentials a tenant has: a generation is a user of its own, so that a new one can work beside the old."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from kryonix.topology.document import Document
from kryonix.topology.errors import InvalidInput
from kryonix.topology.model import Model, validate

__all__ = ["Generations", "parse_generations"]


class Generations(Model):
    """The generation that applications are given, and the one before it while that is still to work."""

    generation: int = Field(1, ge=1, description="The current generation, counted from 1")
    retiring: int | None = Field(None, ge=1, description="An older generation whose user still works")

    @field_validator("retiring")
    @classmethod
    def _older(cls, value: int | None, info: ValidationInfo) -> int | None:
        current = info.data.get("generation")
        if value is not None and current is not None and value >= current:
            raise ValueError(f"{value} is not older than the current generation, {current}. Name an older one or none")
        return value

    @property
    def all(self) -> tuple[int, ...]:
        """Every generation that works, the current one first."""
        return (self.generation,) if self.retiring is None else (self.generation, self.retiring)


def parse_generations(value: Any, file: str) -> Generations:
    """The generations in a stack's config. Raises InvalidInput with every problem."""
    found, problems = validate(Generations, Document(file, value, {}))
    if found is None or problems:
        raise InvalidInput(problems)
    return found
